"""What all measurements have in common: the machine they were made on, and reports as JSON files.

Builders, evaluation and loadtest import it. It measures nothing itself and knows none of them.
"""
