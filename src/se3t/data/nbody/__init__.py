"""N-body data of Table 1: presets, simulator, store, tensors and baselines. Importing the package imports no torch.

``presets`` (settings) and ``prepare`` (make the store) need NumPy only; ``dataset`` and ``baselines`` hand out tensors.
"""
