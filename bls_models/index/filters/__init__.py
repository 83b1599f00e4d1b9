"""The filter language, and the columns of product fields that it is evaluated over.

The index evaluates filters, match checks those of requests, replication checks products. Nothing
here knows vectors.
"""
