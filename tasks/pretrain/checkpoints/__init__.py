"""Checkpoints: whole or absent, readable by any number of ranks and at any ZeRO stage, and which of them stay."""
