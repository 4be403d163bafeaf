"""Documents on disk: shards, and what is counted and told of them."""
