"""A file in, a file out: every row with its verdict, computed here, by a service or on Ray Data."""
