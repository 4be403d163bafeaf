"""Formats that strangers write: compression, encodings, rows of JSON, Arrow and Parquet, within bounds."""
