"""Three ways to run several workers behind one port, measured side by side."""
