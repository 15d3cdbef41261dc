"""Answers for files, from any saved checkpoint."""
