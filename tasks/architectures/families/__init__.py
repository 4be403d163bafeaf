"""Families of models as data, and what may be chosen inside them."""
