"""Stage clean: main text of pages, normalized, filtered by language and quality, personal data masked."""
