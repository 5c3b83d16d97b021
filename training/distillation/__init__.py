"""Teachers, and what they hand to the student."""
