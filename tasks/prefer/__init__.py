"""Stage prefer: the tuned model learns from rewards of its own replies, by TRL's GRPO."""
