"""What the server tells of itself: request log, log lines, metrics and request ids.

Every package above the database may import it. It never decides what a request gets, and what it
cannot tell it counts and drops.
"""
