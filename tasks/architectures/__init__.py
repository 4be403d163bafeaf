"""Architectures: families of models as data, their sizes, the roles of their weights, their arithmetic."""
