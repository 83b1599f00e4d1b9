"""``product_picture``: products' pictures for those who show them, scaled, without their metadata.

``product_picture`` alone imports it. It reads products and pictures and writes nothing.
"""
