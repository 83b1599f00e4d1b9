"""Which of a query's words a product has: what text vectors cannot tell of numbers and names.

The index keeps the words as it keeps the fields, and scores with them. Nothing here knows vectors.
"""
