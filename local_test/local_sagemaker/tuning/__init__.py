"""Automatic model tuning: many training jobs in search of the best hyperparameters."""
