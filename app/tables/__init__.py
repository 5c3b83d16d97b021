"""Rows of text from any file, all of them accounted for; training and scoring read through it."""
