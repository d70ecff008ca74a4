"""A trained run as a model file."""
