"""HTTP: messages as archives hold them, content encodings, public addresses."""
