"""Stage decontaminate: training documents that overlap with held-out items go."""
