"""Optimizers that work on whatever share of each weight a rank holds, and the learning rate."""
