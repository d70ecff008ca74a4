"""What a GPU is shared among: the part of it that a segment takes, and how many are trained on it as one stack."""

from __future__ import annotations

from qatplan.training.segment import SegmentConfig

SHARES = (0.125, 0.25, 0.5, 1.0)
LARGEST_SHARING = 20e6
"""Parameters. Smaller models leave a GPU waiting for the next kernel; a larger one is taken to fill it alone."""
STATE_BYTES = 24
"""Per parameter in float32: weight, gradient, AdamW's two averages, and a quantized weight with its gradient."""
FIXED_BYTES = 2 * 2**30
"""Allowance for the CUDA context, kernels and workspaces of a process."""
CAPTURE = 1.4
"""Times the memory that tensors need: captured steps keep memory of their own, and blocks are cut to fit. Measured on
an NVIDIA H200 for one model and for eight, at widths 64 to 512 (benchmarks/gpu.py), when each captured segment had a
stream of its own, which took more: the plan is 0.4 to 3.1 GiB above the peak of the tensors and 600 MiB for CUDA."""
USABLE = 0.9
"""Part of a GPU's memory that may be planned with; the allocator fragments the rest."""

LARGEST_STACK = 8
"""Models in one stack: each comes with an optimizer and quantizers of its own, whose launches do not get fewer."""


def share_of(config: SegmentConfig, gpu_bytes: int, models: int = 1) -> float:
    """The smallest of `SHARES` whose part of `gpu_bytes` holds a segment in training, or a stack; 1 if none does."""
    if config.shape.n_total > LARGEST_SHARING:
        return 1.0
    needed = training_bytes(config, models)
    return next((share for share in SHARES if needed <= USABLE * share * gpu_bytes), 1.0)


def stack_size(config: SegmentConfig, gpu_bytes: float | None) -> int:
    """How many models like a segment's to train as one stack in that much memory; 1 for large ones, or on a CPU."""
    if gpu_bytes is None or config.shape.n_total > LARGEST_SHARING:
        return 1
    each = training_bytes(config) - FIXED_BYTES
    return max(1, min(LARGEST_STACK, int((USABLE * gpu_bytes - FIXED_BYTES) / each)))


def training_bytes(config: SegmentConfig, models: int = 1) -> float:
    """Memory of training a segment, or a stack, in float32, from above: state, activations, logits, and allowances.

    Activations per token and layer are 34 width + 5 heads sequence bytes at 16 bits (Korthikanti et al. 2022,
    arXiv 2205.05198, equation 1, without parallelism), twice that here; fused attention needs less.
    """
    shape = config.shape
    per_layer = 2 * (34 * shape.width + 5 * shape.heads * config.sequence)
    logits = 3 * 4 * shape.vocabulary
    per_token = shape.layers * per_layer + logits
    tensors = STATE_BYTES * shape.n_total + config.sequences * config.sequence * per_token
    return FIXED_BYTES + CAPTURE * models * tensors
