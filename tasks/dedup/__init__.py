"""Stage dedup: exact and near duplicates, containment, repeated paragraphs."""
