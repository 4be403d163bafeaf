"""The model: architecture, training loop, export."""
