"""The stages: stage `x` is `tasks/x.py`, a pure function over paths; beside them one folder a domain for what they share."""
