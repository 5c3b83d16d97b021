"""Valence's offline pipeline: read, train, export, evaluate. Imports nothing by itself."""
