"""The console: one page, its script and style, served as they are."""
