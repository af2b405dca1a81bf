"""Training objectives around models, each with the generation that belongs to it."""
