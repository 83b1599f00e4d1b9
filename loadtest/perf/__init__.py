"""``python -m loadtest.perf``: perf_analyzer against ``product_match``, with a CSV and a plot."""
