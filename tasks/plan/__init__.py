"""Stage plan: what to train for a budget, before it is spent."""
