"""``product_report``: how the server does, by its logs, the feedback, the index and the metrics.

``product_report`` imports it; ``local_server`` and ``evaluation`` import the figures on feedback.
It only reads.
"""
