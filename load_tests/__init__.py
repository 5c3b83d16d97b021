"""Load tests: a black box that speaks HTTP; only the benchmark's ceiling imports the service."""
