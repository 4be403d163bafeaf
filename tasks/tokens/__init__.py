"""Text and conversations as tokens: encoding, control tokens, chat templates."""
