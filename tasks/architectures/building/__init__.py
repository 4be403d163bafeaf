"""Building models of the families: configurations, first weights, muP, and what keeps documents apart."""
