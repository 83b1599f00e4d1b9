"""``product_match``: from a request's tensors to products, with captions, variants and a log entry.

``product_match`` imports it, and the probe the match that health checks ask for. It writes nothing
to the database but its log, and never imports ingest or feedback.
"""
