"""Published rule sets by name: a file each, its thresholds and source at the top; decisions as in datatrove's filters."""
