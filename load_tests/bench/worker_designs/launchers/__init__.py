"""The service behind other supervisors than its own, for the comparison alone."""
