"""Mixed traffic with faults for as long as you like, and a verdict."""
