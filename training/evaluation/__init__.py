"""Evaluation of exported versions: metrics, reports, baselines, pace, tutorials."""
