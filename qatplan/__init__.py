"""qatplan: how much of a token budget goes to quantization-aware training, at which bit width, and how sure we are."""

__version__ = "0.1.0"
