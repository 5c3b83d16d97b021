"""Queue, batches, engines and models. Independent of HTTP."""
