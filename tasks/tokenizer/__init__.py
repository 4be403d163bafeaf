"""Stage tokenizer: trains a tokenizer or adopts one."""
