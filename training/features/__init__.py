"""Vectors of words, n-grams and regions, learned without labels."""
