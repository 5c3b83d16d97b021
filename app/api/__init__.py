"""The door: routes, bodies, errors and headers."""
