"""Stage instruct: conversations and questions for tuning, and the held-out split."""
