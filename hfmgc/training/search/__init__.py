"""Searching hyper-parameters with Optuna: many independent trials, on as many workers as there are."""
