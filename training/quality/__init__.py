"""What a version is good for beside its own test texts: short texts and capabilities."""
