"""The stages: stage `x` is `tasks/x.py`, a pure function over paths; beside them one folder a domain for what they share."""

import os

# Read by GNU OpenMP when torch is loaded, so set before anything else is imported. By default a thread that waits for
# the others spins for milliseconds; on a machine that has other work to do too, all then wait for each other: with
# short spins training ran six times as fast beside other work.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
