"""The results of training: models, predictions, metrics, standard errors."""
