"""The stages: stage `x` is the folder `tasks/x/`, a pure function over paths; beside them a room a theme for what they share."""

import os

# Read by GNU OpenMP when torch is loaded, so set before anything else is imported. By default a thread that waits for
# the others spins for milliseconds, and beside other work all of them then wait for each other: two trainings side by
# side ran six times as fast with short spins, and one alone 3% slower (LOG.md).
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
