"""Main text of HTML pages."""
