"""Published sets of quality rules by name: a file each, its thresholds and source at the top."""
