"""Which runs to make next, and what they buy."""
