"""Text of documents that are no web pages: PDF, Word, EPUB, LaTeX, e-mail."""
