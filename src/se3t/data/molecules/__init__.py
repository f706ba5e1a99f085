"""Molecules of any source: reading them, building their bonds, keeping them as flat arrays, making graphs of them."""
