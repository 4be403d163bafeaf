"""Bytes to text: declared encodings as browsers know them (WHATWG), undeclared ones by what the bytes look like."""
