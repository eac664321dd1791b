"""The networks of the Segment Anything family; torch only.

Inside this package SAM's own order rules: points are (x, y), boxes (x0, y0, x1, y1), in pixels of the
picture as it is shown to the model. Everywhere else it is (y, x).
"""
