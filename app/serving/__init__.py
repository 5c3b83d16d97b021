"""The engine room: queue, batches, models. Knows nothing of HTTP."""
