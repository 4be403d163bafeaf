"""Processes: shards over workers or Ray, isolated workers, subprocesses that do not outlive their parent."""
