"""Metrics, pictures and pages."""
