"""Rows of JSON, Arrow and Parquet as Python values, none larger than allowed, whatever a file claims."""
