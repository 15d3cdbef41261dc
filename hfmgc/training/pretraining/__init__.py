"""Training without genres: the settings, data, Trainer and run folder that all objectives share."""
