"""Text: document shards, normalisation, filters, hashing, conversations."""
