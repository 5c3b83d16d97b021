"""Models: their layers, how they are put together, and how they are run."""
