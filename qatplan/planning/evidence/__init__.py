"""What the user's own runs say beside the law: fusing, ends of the split, slowdown by quantizers."""
