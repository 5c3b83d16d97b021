"""The benchmark: the service beside what its machine could do at best, in one run."""
