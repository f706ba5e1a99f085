"""Uses of a trained model: predictions for molecules, and export as a folder with weights and model card."""
