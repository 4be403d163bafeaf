"""Stage finetune: supervised tuning by TRL."""
