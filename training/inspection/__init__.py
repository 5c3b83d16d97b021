"""What a training would learn from a data set, told without training."""
