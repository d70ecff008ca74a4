"""What part of a GPU a model gets: whole for large ones, by memory for small ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.graphs import GRID, graph

from qatplan.sweeping.engines.gpu_share import (
    FIXED_BYTES,
    LARGEST_STACK,
    SHARES,
    USABLE,
    share_of,
    stack_size,
    training_bytes,
)
from qatplan.training.segment import SegmentConfig
from qatplan.training.shape import shape_of_width

GIB = 2**30


def config(width: int, sequences: int = 16, sequence: int = 128) -> SegmentConfig:
    any_segment = next(iter(graph(GRID).segments.values()))
    return replace(any_segment.config, shape=shape_of_width(width), sequences=sequences, sequence=sequence)


def test_small_models_share_and_large_ones_do_not() -> None:
    assert share_of(config(24), 80 * GIB) == SHARES[0]
    assert share_of(config(256), 80 * GIB) == SHARES[0]
    assert share_of(config(1024), 80 * GIB) == 1


def test_a_smaller_gpu_or_a_larger_batch_takes_a_larger_share() -> None:
    shares = [share_of(config(256), size * GIB) for size in (80, 24, 8, 4, 1)]
    assert shares == sorted(shares)
    assert shares[-1] == 1, "what does not fit gets all there is"
    assert share_of(config(256, sequences=256), 24 * GIB) > share_of(config(256), 24 * GIB)


@pytest.mark.parametrize("width", [16, 64, 256])
@pytest.mark.parametrize("size", [8, 16, 24, 80])
def test_what_shares_a_gpu_fits_into_it(width: int, size: int) -> None:
    share = share_of(config(width), size * GIB)
    if share < 1:
        assert training_bytes(config(width)) / share <= USABLE * size * GIB


def test_memory_counts_the_state_and_every_token() -> None:
    # Width 64: 3 layers, 2 heads; 16 sequences of 128 bytes.
    n = shape_of_width(64).n_total
    tokens = 16 * 128
    by_hand = 24 * n + tokens * (3 * (68 * 64 + 10 * 2 * 128) + 12 * 256)
    assert training_bytes(config(64)) == pytest.approx(FIXED_BYTES + 1.4 * by_hand)


PEAKS = {64: (194, 670), 128: (548, 1628), 256: (1190, 4430), 512: (3088, 14466)}
"""MiB reserved for tensors, by width, of one model and of eight on an NVIDIA H200 (`python benchmarks/gpu.py`)."""
CONTEXT = 600
"""MiB, about: what CUDA takes before the first tensor, which is not in those figures."""


@pytest.mark.parametrize("width", PEAKS)
def test_memory_is_from_above(width: int) -> None:
    for models, peak in zip((1, 8), PEAKS[width], strict=True):
        planned = training_bytes(config(width), models) / 2**20
        assert CONTEXT + peak <= planned <= CONTEXT + peak + 4096


@pytest.mark.parametrize("width", [16, 64, 256, 512])
def test_a_stack_fits_into_its_gpu_and_takes_a_share_that_holds_it(width: int) -> None:
    for size in (2, 4, 8, 24, 80):
        models = stack_size(config(width), size * GIB)
        assert 1 <= models <= LARGEST_STACK
        if models > 1:
            assert training_bytes(config(width), models) <= USABLE * size * GIB
            share = share_of(config(width), size * GIB, models)
            assert training_bytes(config(width), models) <= USABLE * share * size * GIB
    assert stack_size(config(64), 80 * GIB) == LARGEST_STACK
    assert stack_size(config(1024), 80 * GIB) == 1
    assert stack_size(config(256), GIB) == 1, "what does not fit is tried alone"
