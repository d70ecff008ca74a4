"""Quantizing after training: rounding, learned rounding, mixed widths."""
