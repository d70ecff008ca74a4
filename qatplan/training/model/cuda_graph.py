"""Training steps as CUDA graphs: all kernels of a step are captured once, and from then on launched in one go.

The kernels of a small model are over before the host has launched the next one. A captured step replays the same
kernels on the same memory in the same order, so what it computes is what a step that is launched kernel by kernel does.
What changes from step to step, the batch and the learning rates, is written into that memory before.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP_STEPS = 3
"""Steps that are launched kernel by kernel first: programs are compiled, optimizers make what they remember."""


class CapturedStep:
    """Takes steps that are functions of their rows of text: captured on a GPU once warm.

    All are one `step`, which must read nothing from the GPU and do the same each time. What it returns is overwritten
    by the next call.
    All steps of a process should be given one `stream`: the libraries keep memory for each that they were used on.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._device = stream.device
        self._stream = stream
        self._called = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rows = torch.empty(0)
        self._result = torch.empty(0)

    def __call__(self, step: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Take the step with these rows, which lie on the host."""
        self._called += 1
        if self._called <= WARM_UP_STEPS:
            return self._launched(step, rows)
        if self._graph is None:
            self._capture(step, rows)
        send(rows, self._rows)
        assert self._graph is not None
        self._graph.replay()
        return self._result

    def _launched(self, step: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        # On the stream that captures later, where the backward pass then finds all that it accumulates into.
        present = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            result = step(rows)
        present.wait_stream(self._stream)
        return result

    def _capture(self, step: Callable[[Tensor], Tensor], rows: Tensor) -> None:
        self._rows = torch.empty_like(rows, device=self._device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._result = step(self._rows)


def make_reproducible() -> None:
    """Have this process use only such kernels on GPUs as give the same bits each time; before the first product."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Else memory is filled before it is written: many small kernels more.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def send(source: Tensor, target: Tensor) -> None:
    """Copy from the host to the GPU, behind what is launched there already, without waiting for it."""
    # The allocator of pinned memory does not give it out again before the copy is over.
    target.copy_(source.pin_memory(), non_blocking=True)
