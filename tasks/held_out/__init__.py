"""What models are measured on and never trained on: the split, evaluation sets, benchmark items, and overlap with them."""
