"""Text to tokens: packaged documents or files of the user."""
