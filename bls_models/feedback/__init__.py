"""Feedback on matches: what it may say, how it is stored, and reports on it.

``product_feedback`` and the reports of ``local_server`` and ``evaluation`` import it. It never
changes how a match is found.
"""
