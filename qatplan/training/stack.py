"""Train segments of one shape as one stacked program: one forward and one backward pass for all of them.

Kernels of small models are over before a GPU is full, or before the next is launched; in a stack each kernel has as
many times the work. Every branch has its own weights, quantizers, batch (branches begin at different steps of their
trunk), optimizer and learning rate, so it gets the numbers it would get alone, up to the order of float sums.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from qatplan.quant.weight import fake_stack
from qatplan.training.branch import CURVE_STEPS, Branch
from qatplan.training.checkpoint import State
from qatplan.training.model.cuda_graph import CapturedStep
from qatplan.training.model.quantized import input_block
from qatplan.training.runtime import Runtime, tokens_and_targets
from qatplan.training.segment import SegmentConfig

WATCH_SECONDS = 0.5


def train_stack(
    configs: Sequence[SegmentConfig],
    begins: Sequence[State],
    runtime: Runtime,
    *,
    watch: Callable[[int, int], None] | None = None,
    save: Callable[[int, State], None] | None = None,
    save_seconds: float = 60.0,
) -> Iterator[tuple[int, State]]:
    """Train segments whose `SegmentConfig.stack` is equal; yields the number and the end of each as it comes.

    A branch that ends or diverges leaves the stack and the rest goes on; a stack of one is trained as segments are
    without stacks, bit for bit. `watch` and `save` are `train`'s, with the number of the branch first; any state that
    is saved can be gone on from alone or in any stack.
    """
    # Equal quantizers side by side: they are handled in one call.
    order = sorted(range(len(configs)), key=lambda number: repr(configs[number].quantization))
    branches: dict[int, Branch] = {}
    now = time.monotonic()
    for number in order:
        config, begin = configs[number], begins[number]
        if begin.status == "diverged":
            yield number, replace(begin, step=config.end, seconds=0.0)
        else:
            branches[number] = Branch(config, begin, runtime)
    watched, saved = dict.fromkeys(branches, now), dict.fromkeys(branches, now)
    stacks: list[_Stack] = []
    while branches:
        over = [number for number, branch in branches.items() if not branch.going]
        for number in over:
            yield number, branches.pop(number).end()
            now = time.monotonic()  # what the caller did with it is no training
        if over or not stacks:
            stacks = _stacks(list(branches.values()), runtime)
        for stack in stacks:
            stack.step()
            before, now = now, time.monotonic()
            for branch in stack.branches:
                branch.seconds += (now - before) / len(stack.branches)
        for number, branch in branches.items():
            if watch is not None and now - watched[number] > WATCH_SECONDS:
                watch(number, branch.step - branch.config.start)
                watched[number] = now
            # Only at the grid of the curve: a state then never holds half a point.
            on_grid = branch.step % CURVE_STEPS == 0 and branch.finite
            if save is not None and on_grid and now - saved[number] > save_seconds:
                save(number, branch.state())
                saved[number] = now


def _stacks(branches: list[Branch], runtime: Runtime) -> list[_Stack]:
    rest = iter(branches)
    sizes = stack_sizes(len(branches), branches[0].config.backend) if branches else []
    return [_Stack([next(rest) for _ in range(size)], runtime) for size in sizes]


def stack_sizes(branches: int, backend: str) -> list[int]:
    """So many branches as one stack; compiled, as stacks of 1, 2, 4 ..., since every size is a program to compile."""
    if backend == "eager":
        return [branches]
    return [1 << place for place in reversed(range(branches.bit_length())) if branches >> place & 1]


class _Stack:
    """Branches that take their steps at once."""

    def __init__(self, branches: Sequence[Branch], runtime: Runtime) -> None:
        self.branches = branches
        self._runtime = runtime
        self._forward = runtime.forward(branches[0].config, len(branches))
        names = list(branches[0].weights)
        self._runs = [(name, [list(run) for _, run in groupby(branches, partial(_quantizer, name))]) for name in names]
        """By tensor, the branches in runs whose quantizer is the same."""
        capture = runtime.capture and all(branch.capturable for branch in branches)
        self._captured = CapturedStep(runtime.stream) if capture else None
        for branch in branches:
            branch.stack = max(branch.stack, len(branches))

    def step(self) -> None:
        """One step of every branch."""
        rows = torch.cat([self._runtime.rows(branch.config, branch.step) for branch in self.branches])
        if self._captured is None:
            losses = self._update(rows)
        else:
            for branch in self.branches:
                branch.set_rates()
            losses = self._captured(self._update, rows)
        for branch, loss in zip(self.branches, losses.unbind(), strict=True):
            branch.note(loss)

    def _update(self, rows: Tensor) -> Tensor:
        """Update every branch from its rows (branches * sequences, sequence + 1); each one's loss before."""
        tokens, targets = tokens_and_targets(rows.to(self._runtime.device))
        alone = len(self.branches) == 1
        tensors = self.branches[0].tensors() if alone else self._tensors()
        losses = self._forward(tensors, tokens, targets)
        losses = losses.mean().view(1) if alone else losses.view(len(self.branches), -1).mean(dim=1)
        # The gradient of a branch's loss is nothing to the weights of the others.
        losses.sum().backward()  # type: ignore[no-untyped-call]
        found = losses.detach()
        for number, (branch, loss) in enumerate(zip(self.branches, found.unbind(), strict=True)):
            if self._captured is None:
                needed = branch.transition is not None and not alone
                branch.set_rates([tensor[number] for tensor in tensors] if needed else tensors)
            branch.update(loss)
        return found

    def _tensors(self) -> list[Tensor]:
        """What each branch's `tensors` are, stacked: (branches, ...) each."""
        stacked = []
        for name, runs in self._runs:
            parts = [_stacked(name, run) for run in runs]
            stacked.append(parts[0] if len(parts) == 1 else torch.cat(parts))
        ranges = [branch.quantized.input_ranges() if branch.quantized else [] for branch in self.branches]
        return stacked + [torch.stack(values) for values in zip(*ranges, strict=True)]


def _quantizer(name: str, branch: Branch) -> object:
    """What must be equal in two branches for one call to quantize the tensor called `name` of both."""
    weight = branch.quantized.weights.get(name) if branch.quantized else None
    return None if weight is None else (weight.quantizer, weight.group_size)


def _stacked(name: str, branches: Sequence[Branch]) -> Tensor:
    """The tensor called `name` of branches that quantize it in the same way, or not at all."""
    weights: list[Tensor] = [branch.weights[name] for branch in branches]
    models = [branch.quantized for branch in branches if branch.quantized is not None]
    quantized = [model.weights[name] for model in models if name in model.weights]
    if not quantized:
        return torch.stack(weights)
    return fake_stack(quantized, weights, input_block(name, weights[0].shape[-1], models[0].activation))
