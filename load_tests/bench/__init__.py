"""The benchmark: compares the service with the limits of its machine, measured in the same run."""
