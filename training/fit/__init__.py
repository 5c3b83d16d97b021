"""Fitting: the loop, its step, optimizers, checkpoints, the finished run."""
