"""Tables of the paper from run records and published numbers, and how they are printed. Imports no torch."""
