"""HTTP: routes, bodies, errors and headers."""
