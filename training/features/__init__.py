"""What is learned from texts without labels: vectors of words, n-grams and regions."""
