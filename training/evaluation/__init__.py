"""An exported version on labelled texts."""
