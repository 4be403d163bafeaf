"""The web crawler: frontier, spider, politeness, robots.txt, sitemaps, traps, rendering."""
