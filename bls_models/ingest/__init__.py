"""``product_ingest``: from a request's tensors to products in the database.

``product_ingest`` alone imports it. It never changes the index, which follows the database, and
never imports match or feedback.
"""
