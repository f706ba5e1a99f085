"""Training and evaluation: Lightning module, stateless feeding, exact resume, run records. Imports nothing heavy by
itself.
"""
