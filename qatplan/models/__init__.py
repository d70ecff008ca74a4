"""What a model weighs and costs: its shape, the bytes of its files and caches, its FLOPs. Knows no law."""
