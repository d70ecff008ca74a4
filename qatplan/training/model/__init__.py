"""The decoder, plain, quantized and stacked, and how its steps are compiled or captured."""
