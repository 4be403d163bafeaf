"""Readers of files and data sets: rows and texts to documents."""
