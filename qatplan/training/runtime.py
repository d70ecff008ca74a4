"""What a process keeps between segments: the opened corpus, the validation set and one compiled function per shape."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from qatplan.errors import UsageError
from qatplan.training.corpus.corpus import Corpus, batch, prefetch, validation_blocks
from qatplan.training.model.compilation import compiled
from qatplan.training.model.cuda_graph import make_reproducible
from qatplan.training.model.decoder import Feed, Forward, make_forward
from qatplan.training.model.operations import compiled_operations
from qatplan.training.model.quantized import activation_feed, activation_quantizer
from qatplan.training.segment import Activation, SegmentConfig
from qatplan.training.shape import Shape


class Runtime:
    """A device, a corpus, and the forward functions made so far."""

    def __init__(self, corpus: Corpus, device: str, *, capture: bool = True) -> None:
        """`capture` allows training steps to become CUDA graphs, on a GPU."""
        self.corpus = corpus
        self.capture = capture and device == "cuda"
        self.device = torch.device(device)
        if device == "cuda":
            make_reproducible()
        self._forwards: dict[tuple[Shape, int, str, str, Activation | None, int], Forward] = {}
        self._validation: dict[tuple[int, int], Tensor] = {}

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        """On which steps are captured."""
        return torch.cuda.Stream(self.device)

    def forward(self, config: SegmentConfig, models: int = 1) -> Forward:
        """The loss function of a segment's shape, or of a stack of so many; compiled if its backend says so."""
        activation = config.quantization.activation if config.quantization else None
        key = (config.shape, config.sequence, config.backend, config.precision, activation, models)
        if key not in self._forwards:
            self._forwards[key] = self._make(config, activation, models)
        return self._forwards[key]

    def _make(self, config: SegmentConfig, activation: Activation | None, models: int) -> Forward:
        shape, sequence, eager = config.shape, config.sequence, config.backend == "eager"
        mixed = config.precision == "bfloat16"
        feed = activation_feed(activation_quantizer(activation))
        if activation is not None and mixed:
            feed = _in_float32(feed)
        operations = None if eager else compiled_operations(sequence, shape.head_size, self.device)
        forward = make_forward(shape, sequence, self.device, feed, operations, models)
        if mixed:
            forward = _in_bfloat16(forward, self.device)
        if eager:
            return forward
        program = (shape, sequence, config.sequences, config.device, config.precision, activation, models)
        return compiled(forward, repr(program))

    def batch(self, config: SegmentConfig, step: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets of a step, each (sequences, sequence)."""
        return tokens_and_targets(self.rows(config, step).to(self.device))

    def rows(self, config: SegmentConfig, step: int) -> Tensor:
        """The text of a step, on the host, (sequences, sequence + 1); that of the next is on its way from disk."""
        rows = batch(self.corpus, seed=config.seed, step=step, sequences=config.sequences, length=config.sequence)
        prefetch(self.corpus, seed=config.seed, step=step + 1, sequences=config.sequences, length=config.sequence)
        return torch.from_numpy(rows)

    def validation(self, config: SegmentConfig) -> Tensor:
        """The fixed validation blocks (blocks, sequence + 1), a whole number of batches."""
        key = (config.validation_tokens, config.sequence)
        if key not in self._validation:
            rows = validation_blocks(self.corpus, tokens=config.validation_tokens, length=config.sequence)
            self._validation[key] = torch.from_numpy(rows).to(self.device)
        blocks = self._validation[key]
        return blocks[: max(1, len(blocks) // config.sequences) * config.sequences]


def _in_bfloat16(forward: Forward, device: torch.device) -> Forward:
    """The same function with its products of matrices in bfloat16; its backward pass follows.

    Master weights, the optimizer, the quantizers and their ranges, norms, the softmax of the loss and the loss itself
    stay in float32; torch.autocast decides. bfloat16 has the range of float32, so gradients need no scaling.
    """

    def call(weights: list[Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return forward(weights, tokens, targets)

    return call


def _in_float32(feed: Feed) -> Feed:
    """A feed that quantizes in float32 also where it is handed bfloat16."""

    def quantize(x: Tensor, site: int, ranges: Sequence[Tensor]) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return feed(x.float(), site, ranges)

    return quantize


def tokens_and_targets(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of text (sequences, sequence + 1) as what the model reads and what it is to say next."""
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def can_compile(device: str) -> bool:
    """Whether torch.compile has what it needs here: a C++ compiler for cpu, triton for cuda."""
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None
    return sys.platform != "win32" and any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def gpu_bytes() -> int:
    """Memory of the GPU."""
    return torch.cuda.get_device_properties(0).total_memory


def resolve_device(device: str) -> str:
    """`auto`, `cpu` or `cuda` as the device that will be used; UsageError if there is no such device."""
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device == "cuda" and not available:
        raise UsageError("device cuda is not available on this machine; allowed here: auto, cpu.")
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} is not one of auto, cpu, cuda.")
    return device
