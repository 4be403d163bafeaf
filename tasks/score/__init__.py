"""Scores: bits per byte, question answering, generations, the report page."""
