"""Text preprocessing, shared by training and serving so that both see the same ids."""
