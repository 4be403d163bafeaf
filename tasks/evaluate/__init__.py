"""Stage evaluate: bits per byte, answers, replies."""
