"""Web archives (WARC), local and over the network, to documents; and what the crawler fetched, to WARC."""
