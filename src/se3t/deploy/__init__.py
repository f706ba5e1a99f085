"""Uses of a trained model: predictions for molecules, and export as a folder with weights and model card.

``load("qm9")(molecules)`` predicts with a model that comes with the package, or with one of a folder.
"""

from se3t.deploy.predict import Predictor as Predictor
from se3t.deploy.predict import load as load
