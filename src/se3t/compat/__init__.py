"""Weights and call signatures of the two released implementations of the SE(3)-Transformer.

:mod:`se3t.compat.authors` and :mod:`se3t.compat.nvidia` turn a state_dict of theirs into the equal model of this
library; :func:`load_model` reads what ``se3t convert`` wrote.
"""

from se3t.compat.converted import load_model as load_model
