"""When texts are alike: canonical text, shingles, MinHash, LSH, and their compiled kernels."""
