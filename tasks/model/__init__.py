"""Models: given ones and their files, loading, curves, bits per byte, llama.cpp."""
