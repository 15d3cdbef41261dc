"""Pre-training without genres: the settings, data, Trainer and stages that all objectives share."""
