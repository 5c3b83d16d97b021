"""Load tests: a black box that speaks HTTP and imports nothing of the service."""
