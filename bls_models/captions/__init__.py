"""Pictures to captions: the decoding loop, the queue in front of it, and waiting for what it gives.

Match and ingest import it. What a caption is used for is their affair; nothing here searches or
stores anything.
"""
