"""What becomes of a trained model: predictions for molecules, and a folder with weights and model card to hand on."""
