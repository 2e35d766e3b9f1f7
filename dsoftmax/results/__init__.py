"""What training returns: models, predictions, metrics, standard errors."""
