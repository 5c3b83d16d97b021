"""Valence's service. Imports nothing, so that training can use `app.text` without a web server."""
