"""What trained models do with rotated inputs: the numbers of the figures."""
