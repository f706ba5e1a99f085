"""shapes15: synthetic scans of 15 parametric shapes, with the classes and the schema of ScanObjectNN. NumPy only.

No object here was ever seen by a scanner. ``solids`` (triangles), ``shapes`` with ``furniture`` and ``fixtures`` (the
15 classes), ``scan`` (what a camera sees of them), ``prepare`` (the store).
"""
