"""Metrics, calibration, pictures and HTML reports."""
