"""Transition-rate scheduling: the size of a step follows the share of weights whose integer code changes.

Lee et al., arXiv 2404.19248 [paper]. With k the share of weights whose code changed in a step, R the target,

    K = m K + (1 - m) k        U = max(0, U + eta (R - K))        w = w - U g,

g being the optimizer's own update at learning rate 1, weight decay included: at U = 0 nothing moves. U starts at the
usual learning rate U0 and eta = U0, so everything is relative to U0: u = U / U0 starts at 1 and moves by R - K. R falls
as a cosine from lambda sqrt(B) to 0. K starts at the first target, as if the rate had been right so far [open: where it
starts is not in what we have read].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

MEMORY = 0.99
"""m, the share of the running transition rate that a step keeps."""


class TransitionRate:
    """The learning rates of matrices in training, by name; their grids must not move.

    `sizes` and `bits` are those of the matrices, `share` is lambda. Without `by_layer` all matrices are one: they share
    k, K and U, and the target is the mean of theirs, weighted by size.
    """

    def __init__(
        self, sizes: Mapping[str, int], bits: Mapping[str, float], *, share: float, steps: int, by_layer: bool
    ) -> None:
        self.names = list(sizes)
        self.numbers = torch.tensor(list(sizes.values()))
        self.weights = self.numbers.double() / self.numbers.sum()
        """The share of each matrix in all weights."""
        self.steps = steps
        self.by_layer = by_layer
        own = torch.tensor([share * math.sqrt(bits[name]) for name in sizes], dtype=torch.float64)
        self.first_target = self._pooled(own)
        self.average = self.first_target.clone()
        """K of each group."""
        self.size = torch.ones_like(self.average)
        """u = U / U0 of each group."""
        self.seen: Tensor | None = None
        """The weights on their grids at the step before, flat."""
        self.observed: list[tuple[float, float]] = []

    def _pooled(self, shares: Tensor) -> Tensor:
        """Shares of each matrix as shares of each group."""
        return shares if self.by_layer else (shares * self.weights).sum().view(1)

    def _overall(self, shares: Tensor) -> float:
        return float((shares * self.weights).sum()) if self.by_layer else float(shares)

    def target(self, step: int) -> Tensor:
        """R of each group in step `step` of the phase."""
        return self.first_target * (0.5 * (1 + math.cos(math.pi * step / self.steps)))

    def observe(self, step: int, on_grid: Sequence[Tensor]) -> None:
        """Take in the matrices of step `step` on their grids, and adapt the size of the coming update.

        The first step has nothing to compare with. On a fixed grid a value changes exactly when its code does, and the
        values are there already.
        """
        now = torch.cat([matrix.detach().view(-1) for matrix in on_grid])
        before, self.seen = self.seen, now
        if before is None:
            return
        changed = torch.segment_reduce((now != before).float(), "sum", lengths=self.numbers.to(now.device))
        rate = self._pooled(changed.cpu().double() / self.numbers)
        target = self.target(step)
        self.average = MEMORY * self.average + (1 - MEMORY) * rate
        self.size = (self.size + target - self.average).clamp(min=0.0)
        self.observed.append((self._overall(rate), self._overall(target)))

    def take_means(self) -> list[tuple[float, float]]:
        """The means of k and R over all weights since the last call; nothing where nothing was compared."""
        observed, self.observed = self.observed, []
        return [(fmean(k for k, _ in observed), fmean(r for _, r in observed))] if observed else []

    def rates(self, rate: float) -> dict[str, float]:
        """U of each matrix, where U0 is `rate`."""
        sizes = self.size.tolist()
        return {name: rate * sizes[index if self.by_layer else 0] for index, name in enumerate(self.names)}

    def state(self) -> dict[str, Tensor]:
        """What has to be kept to go on from here."""
        state = {"average": self.average.clone(), "size": self.size.clone()}
        return state if self.seen is None else {**state, "seen": self.seen.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.average, self.size = state["average"].cpu().clone(), state["size"].cpu().clone()
        self.seen = state["seen"].clone() if "seen" in state else None
