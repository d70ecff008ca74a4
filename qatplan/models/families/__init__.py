"""Readers of `config.json`, by family: each turns the fields of transformers' configuration class into a shape."""
