"""Scores that take the whole corpus: trained classifier, perplexity, repeated lines, labels."""
