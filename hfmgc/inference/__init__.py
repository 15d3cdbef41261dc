"""Predictions for files and embeddings of tracks by a saved checkpoint."""
