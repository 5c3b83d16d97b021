"""What a search and its trials say to each other."""

from collections.abc import Callable

from training.config import Config

Report = Callable[[int, float], bool]
"""Takes an epoch, counted from 1, and the figure after it; answers whether to end the trial."""


Trainer = Callable[[Config, Report], float | None]
"""Trains once; answers the figure, or None when the trial was ended early."""
