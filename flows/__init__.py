"""Prefect flows: walk the graph that dvc.yaml declares, schedule it, sum up what it did."""
