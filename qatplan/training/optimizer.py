"""What updates the parameters of a segment: the optimizer it names for the matrices, AdamW for norms and ranges.

The three are given one learning rate and turn it into their own, so that "relative to the trunk's" means the same of
each: Muon's step is scaled to the size of AdamW's (`match_rms_adamw`, arXiv 2502.16982), SGD's rate is `SGD_RATE` times
as large. All take a weight decay of rate * weight_decay per step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qatplan.training.model.cuda_graph import send

BETAS = (0.9, 0.95)
MOMENTUM = 0.9
"""Of SGD; Muon has the 0.95 of its author."""
SGD_RATE = 10.0
"""SGD's learning rate over AdamW's, for matrices whose gradient is clipped to norm 1 (docs/transition-rate.md)."""

Moments = Mapping[str, Mapping[str, Tensor]]
"""What an optimizer remembers, by parameter name and then by its own names for it."""


class Optimizer:
    """The optimizers of one segment, and at which rate each parameter goes.

    Muon leaves the embedding to AdamW, as is usual: its rows are looked up, not multiplied.
    """

    def __init__(
        self, name: str, weights: Mapping[str, nn.Parameter], ranges: Mapping[str, nn.Parameter], *,
        weight_decay: float, separate: bool = False,
    ) -> None:  # fmt: skip
        """`separate` gives every matrix a group, and so a rate, of its own."""
        self.parameters = {**weights, **ranges}
        matrices = [key for key, parameter in weights.items() if parameter.ndim == 2]
        self.owned = [key for key in matrices if not (name == "muon" and key == "embedding")]
        """The matrices that the named optimizer updates."""
        left = [key for key in matrices if key not in self.owned]
        # The decay is part of SGD's gradient, which momentum multiplies by 1 / (1 - m) in the long run.
        decay = weight_decay * (1 - MOMENTUM) / SGD_RATE if name == "sgd" else weight_decay
        owned = self._groups(self.owned, decay, separate)
        rest = [
            *self._groups(left, weight_decay, separate),
            *self._groups([key for key in weights if key not in matrices], 0.0, False),
            *self._groups(list(ranges), 0.0, False),
        ]
        self.parts: list[torch.optim.Optimizer] = []
        if name == "sgd":
            self.parts.append(torch.optim.SGD(owned, lr=0.0, momentum=MOMENTUM))
        elif name == "muon":
            self.parts.append(torch.optim.Muon(owned, lr=0.0, adjust_lr_fn="match_rms_adamw"))
        else:
            rest = owned + rest
        self.parts.append(torch.optim.AdamW(rest, lr=0.0, betas=BETAS, fused=True))
        self.unit = {key: SGD_RATE if name == "sgd" and key in self.owned else 1.0 for key in self.parameters}
        self.groups = [group for part in self.parts for group in part.param_groups]
        self.capturable = name == "adamw" and all(p.device.type == "cuda" for p in self.parameters.values())
        """Whether a step can be captured in a CUDA graph: SGD and Muon take their rates from the host."""
        if self.capturable:
            self._rates = torch.zeros(len(self.groups), device="cuda")
            for group, rate in zip(self.groups, self._rates.unbind(), strict=True):
                group.update(lr=rate, capturable=True)

    def _groups(self, names: list[str], weight_decay: float, separate: bool) -> list[dict[str, Any]]:
        members = [[name] for name in names] if separate else [names] if names else []
        return [
            {"params": [self.parameters[name] for name in group], "weight_decay": weight_decay, "first": group[0]}
            for group in members
        ]

    def set_rates(self, rate: float, special: Mapping[str, float]) -> None:
        """Go at `rate`, or at the rate that `special` has for a parameter; members of a group share one."""
        firsts = [group["first"] for group in self.groups]
        rates = [special.get(name, rate) * self.unit[name] for name in firsts]
        if self.capturable:
            send(torch.tensor(rates), self._rates)
            return
        for group, each in zip(self.groups, rates, strict=True):
            group["lr"] = each

    def step(self) -> None:
        """Update every parameter from its gradient, and forget the gradients."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """A copy of what is remembered of every parameter."""
        return {
            name: {key: tensor.clone() for key, tensor in part.state[parameter].items()}
            for name, parameter in self.parameters.items()
            for part in self.parts
            if parameter in part.state
        }

    def restore(self, moments: Moments, *, without: list[str]) -> None:
        """Remember again what `moments` returned, of all parameters but those in `without`."""
        for part in self.parts:
            members = {id(parameter) for group in part.param_groups for parameter in group["params"]}
            for name, parameter in self.parameters.items():
                if id(parameter) in members and name in moments and name not in without:
                    part.state[parameter] = {
                        key: tensor.to(parameter.device, copy=True) for key, tensor in moments[name].items()
                    }
