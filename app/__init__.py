"""Valence's service. Imports nothing, so that training can use `app.text` without a web server."""

__version__ = "0.1.0"
