"""From a finished run to a version folder: SavedModel and ONNX graph."""
