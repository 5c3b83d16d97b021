"""Load tests over HTTP; only the benchmark's in-process ceiling imports the service."""
