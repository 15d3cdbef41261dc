"""Evaluation on whole tracks: predictions, metrics with intervals, reports and pictures."""
