"""Predictions for files and embeddings of tracks, from any saved checkpoint."""
