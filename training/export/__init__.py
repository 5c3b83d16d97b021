"""Export a finished run as a version folder with a SavedModel and an ONNX graph."""
