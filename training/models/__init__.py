"""Keras models: layers, how they are put together, how they are run."""
