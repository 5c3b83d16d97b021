"""Recipes: one file each, whose header says what it is, what it costs and what it scores."""
