"""What people would otherwise build: the same match as a FastAPI service.

Both baselines run the image graph of the model repository in OpenVINO, search the vectors that
``product_ingest`` has stored in MongoDB with FAISS, read the products with pymongo, and find the
same products as ``product_match``. They take photos only, and they log nothing.
"""
