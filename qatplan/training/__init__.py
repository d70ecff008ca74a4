"""Corpus, model, schedule and trainer: one training segment, start to finish."""
