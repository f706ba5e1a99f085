"""Figures from run records and measured files. Matplotlib is imported when one is drawn; imports no torch."""
