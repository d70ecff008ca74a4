"""Transition-rate scheduling: the equations written out, the controller at work, and training segments under it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.segments import end_of

from qatplan import runs
from qatplan.quant import registry
from qatplan.quant.weight import QuantizedWeight
from qatplan.storage.base import Entry
from qatplan.storage.local import LocalStorage
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Segment
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.runtime import Runtime
from qatplan.training.segment import OPTIMIZERS, Quantization, SegmentConfig, Switch
from qatplan.training.shape import shape_of_width
from qatplan.training.trainer import start_state, train
from qatplan.training.transition import MEMORY, TransitionRate

BY_LAYER = ("transition-rate", "transition-rate-by-layer")
QUANTIZATION = Quantization(quantizer="paretoq", bits=2, group_size=None, embedding_bits=4)


def random_walk(sizes: dict[str, int], steps: int, seed: int = 0) -> Iterator[list[torch.Tensor]]:
    """Codes that change here and there, a different share of them in every step."""
    generator = np.random.default_rng(seed)
    codes = [generator.integers(0, 4, (4, size // 4)) for size in sizes.values()]
    for _ in range(steps):
        yield [torch.from_numpy(code.astype(np.float32)) for code in codes]
        share = generator.uniform(0, 0.05)
        codes = [np.where(generator.random(code.shape) < share, (code + 1) % 4, code) for code in codes]


@pytest.mark.parametrize("by_layer", [False, True])
def test_the_scheduler_is_the_equations(by_layer: bool) -> None:
    sizes, bits, share, steps = {"a": 400, "b": 1200}, {"a": 4.0, "b": 2.0}, 0.02, 400
    scheduler = TransitionRate(sizes, bits, share=share, steps=steps, by_layer=by_layer)
    groups = [["a"], ["b"]] if by_layer else [["a", "b"]]
    counts = [sum(sizes[name] for name in group) for group in groups]
    first = [
        sum(sizes[name] * share * math.sqrt(bits[name]) for name in group) / count
        for group, count in zip(groups, counts, strict=True)
    ]
    average, size = list(first), [1.0] * len(groups)
    before: list[torch.Tensor] | None = None
    touched_zero = False
    for step, now in enumerate(random_walk(sizes, steps)):
        scheduler.observe(step, now)
        seen = scheduler.take_means()
        if before is None:
            assert seen == []
        else:
            changed = {name: int((x != y).sum()) for name, x, y in zip(sizes, now, before, strict=True)}
            for index, group in enumerate(groups):
                k = sum(changed[name] for name in group) / counts[index]
                target = first[index] * (1 + math.cos(math.pi * step / steps)) / 2
                average[index] = 0.99 * average[index] + 0.01 * k
                size[index] = max(0.0, size[index] + target - average[index])
            assert seen[0][0] == pytest.approx(sum(changed.values()) / 1600)
        found = scheduler.rates(0.3)
        assert min(found.values()) >= 0
        touched_zero |= min(found.values()) == 0
        for index, group in enumerate(groups):
            for name in group:
                assert found[name] == pytest.approx(0.3 * size[index], abs=1e-12)
        before = now
    assert touched_zero, "the walk does not slow down, so the steps must come to nothing"


def test_one_matrix_is_the_same_by_layer_and_by_model() -> None:
    sizes, bits = {"only": 800}, {"only": 2.0}
    model = TransitionRate(sizes, bits, share=0.01, steps=100, by_layer=False)
    layer = TransitionRate(sizes, bits, share=0.01, steps=100, by_layer=True)
    for step, now in enumerate(random_walk(sizes, 100)):
        model.observe(step, now)
        layer.observe(step, now)
        assert model.take_means() == layer.take_means()
        assert model.rates(0.1) == layer.rates(0.1)


@pytest.mark.parametrize("first_rate", [0.005, 0.05])
def test_the_running_rate_follows_its_target_on_a_toy(first_rate: float) -> None:
    """Weights that drift at random over a fixed grid: about 0.8 U of them cross a threshold in a step."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(4000, generator=generator) * 20
    steps = 4000
    scheduler = TransitionRate({"w": 4000}, {"w": 4.0}, share=0.005, steps=steps, by_layer=False)
    errors = []
    for step in range(steps):
        scheduler.observe(step, [weight.round()])
        weight = weight - scheduler.rates(first_rate)["w"] * torch.randn(4000, generator=generator)
        if step >= steps / 2:
            errors.append(float(scheduler.average - scheduler.target(step)))
    assert np.abs(errors).max() < 0.2 * 0.01, "within 20 % of the first target"
    assert float(scheduler.average) < 0.1 * 0.01


@pytest.mark.parametrize("entry", [entry for entry in registry.ENTRIES if not entry.live], ids=lambda entry: entry.name)
def test_on_a_fixed_grid_a_value_changes_exactly_when_its_code_does(entry: registry.QuantizerEntry) -> None:
    generator = torch.Generator().manual_seed(3)
    for bits in entry.bits:
        weight = torch.randn(6, 40, generator=generator)
        quantized = QuantizedWeight(weight, registry.create(entry.name, bits), None)
        moved = weight + 0.2 * torch.randn(6, 40, generator=generator)
        changed = quantized.rounded(weight).codes != quantized.rounded(moved).codes
        assert changed.any()
        assert torch.equal(quantized.fake(weight) != quantized.fake(moved), changed)


@pytest.fixture(scope="module")
def trunk(trunk: SegmentConfig) -> SegmentConfig:
    """Of one layer, since what is followed here are single matrices."""
    return replace(trunk, shape=replace(trunk.shape, layers=1))


@pytest.fixture(scope="module")
def trunk_end(trunk: SegmentConfig, runtime: Runtime) -> State:
    return train(trunk, start_state(trunk), runtime)


def phase(trunk: SegmentConfig, *, steps: int, optimizer: str, update: str, bits: float = 2) -> SegmentConfig:
    switch = Switch(
        learning_rate=0.4, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=0, decay_start=60 + steps,
        optimizer=optimizer, update=update, transition_rate=None if update == "learning-rate" else 5e-3,
    )  # fmt: skip
    return replace(
        trunk, kind="qat", start=60, end=60 + steps, quantization=replace(QUANTIZATION, bits=bits), switch=switch
    )


def same(left: State, right: State) -> bool:
    def tensors(state: State) -> dict[str, torch.Tensor]:
        moments = {f"{name} {key}": value for name, kept in state.moments.items() for key, value in kept.items()}
        return {**state.weights, **state.ranges, **moments, **state.transition_state}

    a, b = tensors(left), tensors(right)
    return (
        (left.step, left.curve, left.transitions) == (right.step, right.curve, right.transitions)
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("update", BY_LAYER)
def test_the_first_step_is_that_of_the_learning_rate(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime, optimizer: str, update: str
) -> None:
    plain = train(phase(trunk, steps=1, optimizer=optimizer, update="learning-rate"), trunk_end, runtime)
    rated = train(phase(trunk, steps=1, optimizer=optimizer, update=update), trunk_end, runtime)
    assert all(torch.equal(plain.weights[name], rated.weights[name]) for name in plain.weights)
    assert not torch.equal(plain.weights["norm"], trunk_end.weights["norm"])
    # Where the schedule climbs, parameters that are not quantized climb with it; U starts where it is.
    slow = phase(trunk, steps=10, optimizer=optimizer, update="learning-rate")
    assert slow.switch is not None
    slow = replace(slow, switch=replace(slow.switch, rewarmup_steps=10))
    rated_slow = replace(slow, switch=replace(slow.switch, update=update, transition_rate=5e-3))  # type: ignore[type-var]
    left, right = (
        train(replace(config, end=61), trunk_end, runtime) for config in (slow, rated_slow)
    )  # the first step of a longer climb
    for name in left.weights:
        assert torch.equal(left.weights[name], right.weights[name]) == (left.weights[name].ndim == 1), name


@pytest.mark.parametrize("update", BY_LAYER)
def test_grids_stay_where_they_are(trunk: SegmentConfig, trunk_end: State, runtime: Runtime, update: str) -> None:
    end = train(phase(trunk, steps=8, optimizer="adamw", update=update), trunk_end, runtime)
    assert end.ranges
    assert all((ratio == 1).all() for ratio in end.ranges.values())
    assert not any(name in end.moments for name in end.ranges)
    plain = train(phase(trunk, steps=8, optimizer="adamw", update="learning-rate"), trunk_end, runtime)
    assert any((ratio != 1).any() for ratio in plain.ranges.values())
    assert plain.transitions == []


@pytest.mark.usefixtures("dense_curve")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_code_changes_at_rate_zero(trunk: SegmentConfig, trunk_end: State, runtime: Runtime, optimizer: str) -> None:
    config = phase(trunk, steps=13, optimizer=optimizer, update="transition-rate")
    saved: list[State] = []
    train(config, trunk_end, runtime, save=saved.append, save_seconds=0.0)
    middle = saved[0]
    still = {**middle.transition_state, "size": torch.zeros(1).double(), "average": torch.ones(1).double()}
    end = train(config, replace(middle, transition_state=still), runtime)
    assert float(end.transition_state["size"]) == 0.0
    for name, weight in end.weights.items():
        assert torch.equal(weight, middle.weights[name]) == (weight.ndim == 2), name
    rates = [rate for _, rate, _ in end.transitions[len(middle.transitions) :]]
    # The first comparison still sees the update before.
    assert rates[0] > 0
    assert rates[1:] == [0.0]


@pytest.mark.usefixtures("dense_curve")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("update", ["learning-rate", *BY_LAYER])
def test_resuming_changes_no_bit(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime, tmp_path: Path, optimizer: str, update: str
) -> None:
    config = phase(trunk, steps=12, optimizer=optimizer, update=update)
    saved: list[int] = []

    def save(state: State) -> None:
        checkpoint.save(state, Entry(LocalStorage(tmp_path), f"{state.step}.pt"))
        saved.append(state.step)

    whole = train(config, trunk_end, runtime, save=save, save_seconds=0.0)
    assert saved == [65, 70]
    for step in saved:
        assert same(train(config, checkpoint.load(Entry(LocalStorage(tmp_path), f"{step}.pt")), runtime), whole)


def test_the_rate_follows_its_target_in_training(trunk: SegmentConfig, trunk_end: State, runtime: Runtime) -> None:
    config = phase(trunk, steps=500, optimizer="adamw", update="transition-rate")
    end = train(config, trunk_end, runtime)
    tokens, rates, targets = (np.array(column) for column in zip(*end.transitions, strict=True))
    assert tokens[-1] == config.end_tokens
    late = slice(len(rates) // 3, None)
    assert np.corrcoef(rates[late], targets[late])[0, 1] > 0.9
    assert rates.mean() == pytest.approx(targets.mean(), rel=0.5), "a few hundred steps are short for a memory of 100"
    assert rates[-1] < 0.05 * targets[0]


def test_rows_carry_the_transitions(trunk: SegmentConfig, trunk_end: State, runtime: Runtime, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    rows = {}
    for update, steps in (("learning-rate", 2), ("transition-rate", 60)):
        config = phase(trunk, steps=steps, optimizer="sgd", update=update)
        checkpoint.save(trunk_end, folder.checkpoint("parent"))
        name = config.digest("parent")
        segment = Segment(id=name, parent="parent", config=config, schedule="fused", cooldown=0.2)
        assert end_of(segment, folder, runtime).kind == "done"
        table = runs.load(tmp_path / "runs" / f"{name}.parquet")
        assert runs.validate(table) == []
        (rows[update],) = table.to_pylist()
    assert rows["learning-rate"]["transitions"] is None
    assert rows["learning-rate"]["transition_rate"] is None
    assert rows["transition-rate"]["transition_rate"] == 5e-3
    assert rows["transition-rate"]["optimizer"] == "sgd"
    points = rows["transition-rate"]["transitions"]
    assert [point["tokens"] for point in points] == [75 * 128, 100 * 128, 120 * 128]
    # The embedding has four bits here and the other matrices two.
    shape = trunk.shape
    share = shape.n_embedding / sum(w.numel() for w in trunk_end.weights.values() if w.ndim == 2)
    first = 5e-3 * (share * 2 + (1 - share) * math.sqrt(2))
    assert points[0]["target"] == pytest.approx(
        first * np.mean([(1 + math.cos(math.pi * step / 60)) / 2 for step in range(1, 15)]), rel=1e-5
    )
    assert 0 < points[0]["rate"] < 0.5
    assert MEMORY == 0.99


def test_configurations_of_old_keep_their_names(trunk: SegmentConfig) -> None:
    trunk = replace(trunk, shape=shape_of_width(16), corpus="d")
    plain = phase(trunk, steps=1, optimizer="adamw", update="learning-rate")
    assert plain.digest("x") == "2543a694b3c94b9788a6"
    assert phase(trunk, steps=1, optimizer="sgd", update="learning-rate").digest("x") != plain.digest("x")
