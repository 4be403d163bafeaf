"""Launching: the ranks of a run on one machine or several, whether they live, how they ended."""
