"""Hyper-parameter search with Optuna: independent trials, shared by any number of workers."""
