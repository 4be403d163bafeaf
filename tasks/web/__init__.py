"""The web: crawling, WARC files, HTML to text."""
