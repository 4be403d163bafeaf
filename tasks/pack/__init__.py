"""Stage pack: token streams and packed rows."""
