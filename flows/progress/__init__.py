"""Progress: what a person sees of a run while it lasts, and how long it will."""
