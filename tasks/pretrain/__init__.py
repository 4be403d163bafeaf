"""Stage pretrain: the training loop over DeepSpeed."""
