"""Stage report: one HTML page, readable offline."""
