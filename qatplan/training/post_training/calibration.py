"""The training text that post-training methods look at: what follows the tokens the model was trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qatplan.training.runtime import Runtime
from qatplan.training.segment import SegmentConfig


def calibration_batches(config: SegmentConfig, runtime: Runtime, tokens: int) -> list[tuple[Tensor, Tensor]]:
    """At least `tokens` tokens of training text, never of validation text, as batches of (tokens, targets).

    They are the next batches of the trunk's own data order after the segment's end, so they depend on the seed alone
    and are text the model has not seen in this epoch. The first is the one that starts the activations' ranges.
    """
    batches = math.ceil(tokens / (config.sequences * config.sequence))
    return [runtime.batch(config, config.end + number) for number in range(batches)]


def calibration_tokens(config: SegmentConfig, runtime: Runtime, tokens: int) -> Tensor:
    """The same as one tensor of tokens (sequences, sequence)."""
    return torch.cat([batch for batch, _ in calibration_batches(config, runtime, tokens)])
