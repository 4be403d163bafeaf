"""The frame every stage stands in: parameters, paths, atomic outputs, errors, the engine, tracking.

Nothing in here decides what a result is, so no stage names it as a DVC dependency.
"""
