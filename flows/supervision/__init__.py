"""Supervision: a stage as a process under DVC, of which nothing outlives whoever started it."""
