"""A law of one's own: a formula in text, and from it what every other law is written out for."""
