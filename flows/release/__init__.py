"""Releases: a gate that can say no, a model card of recorded facts, versions in MLflow's registry."""
