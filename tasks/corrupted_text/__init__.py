"""Corrupted text: what encoders and encoder-decoders are asked about, and what they say; held-out text in a form that never moves."""
