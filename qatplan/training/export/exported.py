"""A trained model as integers: packed codes and scales per matrix, and all that is needed to run it again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qatplan.errors import UsageError
from qatplan.quant.stored import MixedWeight, StoredWeight, store
from qatplan.training.checkpoint import State
from qatplan.training.model.quantized import activation_quantizer, input_block
from qatplan.training.runtime import Runtime
from qatplan.training.segment import SegmentConfig
from qatplan.training.trainer import Evaluation, loss_of, quantized_end

Weight = StoredWeight | MixedWeight | Tensor


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A quantized model without anything of its training."""

    config: SegmentConfig
    """Of the run, without its `switch`."""
    weights: dict[str, Weight]
    """By name, in the order the model takes them; norms are plain float32 tensors."""
    ranges: dict[str, Tensor]
    """Range parameters of quantized activations by `site:name`, each (1, 1), in the order the model takes them."""

    def tensors(self) -> list[Tensor]:
        """What the model's forward function takes (`qatplan.training.model.decoder.make_forward`)."""
        quantization = self.config.quantization
        assert quantization is not None
        activation = activation_quantizer(quantization.activation)
        weights = [
            weight if isinstance(weight, Tensor) else weight.weight(input_block(name, weight.shape[1], activation))
            for name, weight in self.weights.items()
        ]
        return weights + list(self.ranges.values())

    def evaluate(self, runtime: Runtime) -> Evaluation:
        """Loss on the validation set of the run."""
        return loss_of(self.config, [tensor.to(runtime.device) for tensor in self.tensors()], runtime)


@torch.no_grad()
def exported(config: SegmentConfig, state: State, runtime: Runtime) -> ExportedModel:
    """The integers behind the end of a `qat` or `round` segment; UsageError for one in full precision."""
    quantization = config.quantization
    if quantization is None:
        raise UsageError("a full-precision run has no integer codes to export.")
    model, plain, found = quantized_end(config, quantization, state, runtime)
    found |= {name: weight.rounded(plain[name]) for name, weight in model.weights.items()}
    weights = {name: store(found[name]) if name in found else weight for name, weight in plain.items()}
    ranges = {
        f"{site}:{name}": value.detach()
        for site, learned in model.inputs.items()
        for name, value in zip(learned.starts, learned.current(), strict=True)
    }
    # How it was trained is no part of the model.
    return ExportedModel(config=replace(config, switch=None), weights=weights, ranges=ranges)
