"""Quantizers, the quantized weight, and rounding after training. Knows torch and nothing else of ours."""
