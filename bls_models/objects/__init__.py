"""Where objects are in a picture: the detector's boxes, each object once, on the upright picture.

Match imports it. What is done with an object is its affair; nothing here decodes or searches.
"""
