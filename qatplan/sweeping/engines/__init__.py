"""Where segments are executed: worker processes of this machine, or a Ray cluster."""
