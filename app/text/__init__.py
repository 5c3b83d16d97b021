"""The one home of preprocessing: what training learned from is what serving reads."""
