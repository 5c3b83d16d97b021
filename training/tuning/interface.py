"""The calls between a search and the code that trains one trial."""

from collections.abc import Callable

from training.config import Config

Report = Callable[[int, float], bool]
"""Takes an epoch, counted from 1, and the accuracy after it; returns whether to stop the trial."""
Trainer = Callable[[Config, Report], float | None]
"""Trains once; returns the validation accuracy, or None if the trial was stopped early."""
