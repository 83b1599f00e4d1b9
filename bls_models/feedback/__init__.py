"""Feedback on matches: what it may say, and how it is stored.

``product_feedback`` alone imports it. It never changes how a match is found; what feedback says of
matches is in ``bls_models.report``.
"""
