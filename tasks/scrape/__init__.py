"""Stage scrape: websites, files, web archives, data sets and packages become documents."""
