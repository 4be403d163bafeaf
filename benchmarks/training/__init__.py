"""Pretraining against its peers: `make bench-training`.

Two figures, from one run on one token file: tokens a second of processor time, and bits per byte of held-out text after
equal processor time.
"""
