"""Branches trained as one stack get what they get alone: every quantizer, rate and length, ended, diverged, resumed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from support.dense_curves import make_curve_dense

from qatplan.quant import registry
from qatplan.quant.weight import QuantizedWeight, fake_stack
from qatplan.storage.base import Entry
from qatplan.storage.local import LocalStorage
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.model.decoder import first_weights, make_forward
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import Activation, Quantization, SegmentConfig, Switch
from qatplan.training.shape import Shape
from qatplan.training.stack import stack_sizes, train_stack
from qatplan.training.trainer import evaluate, start_state, train

SWITCH = Switch(learning_rate=0.8, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=2, decay_start=30)
EIGHT_BITS = Activation(quantizer="min-max", bits=8, granularity="tensor")


@pytest.fixture(scope="module")
def trunk(trunk: SegmentConfig) -> SegmentConfig:
    return replace(trunk, end=30, validation_tokens=512)


@pytest.fixture(scope="module")
def trunk_end(trunk: SegmentConfig, runtime: Runtime) -> State:
    return train(trunk, start_state(trunk), runtime)


def branch(
    trunk: SegmentConfig, quantizer: str, bits: float, end: int, *, group_size: int | None = None,
    activation: Activation | None = None, **switch: object,
) -> SegmentConfig:  # fmt: skip
    quantization = Quantization(
        quantizer=quantizer, bits=bits, group_size=group_size, embedding_bits=max(4, bits), activation=activation
    )
    return replace(
        trunk, kind="qat", start=trunk.end, end=end, quantization=quantization, switch=replace(SWITCH, **switch)
    )  # fmt: skip


def many(trunk: SegmentConfig, activation: Activation | None = None) -> list[SegmentConfig]:
    """Branches that differ in all that branches may differ in."""
    return [
        branch(trunk, "paretoq", 2, 43, activation=activation),
        branch(trunk, "paretoq", 4, 38, activation=activation, learning_rate=0.3),
        branch(trunk, "paretoq", 8, 39, activation=activation, group_size=8),
        branch(trunk, "lsq", 4, 43, activation=activation, optimizer_state="reset"),
        branch(trunk, "rtn", 4, 36, activation=activation, optimizer="muon"),
        branch(trunk, "paretoq", 2, 43, activation=activation, learning_rate=0.5, scale_learning_rate=0.1),
        branch(trunk, "beta-gamma", 4, 34, activation=activation, optimizer="sgd"),
        branch(trunk, "paretoq", 2, 43, activation=activation, update="transition-rate", transition_rate=0.01),
    ]


def alike(stacked: State, alone: State, *, tolerance: float = 1e-5) -> None:
    assert (stacked.step, stacked.status) == (alone.step, alone.status)
    assert [tokens for tokens, _ in stacked.curve] == [tokens for tokens, _ in alone.curve]
    for found, expected in ((stacked.curve, alone.curve), (stacked.transitions, alone.transitions)):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(stacked.first_losses, alone.first_losses, rtol=tolerance, atol=tolerance)
    for left, right in ((stacked.weights, alone.weights), (stacked.ranges, alone.ranges)):
        assert left.keys() == right.keys()
        for name, value in right.items():
            torch.testing.assert_close(left[name], value, rtol=100 * tolerance, atol=100 * tolerance)
    assert stacked.moments.keys() == alone.moments.keys()


@dataclass(frozen=True)
class Stacked:
    """The `many` as one stack: their ends in the order they came, and what was saved on the way, by (number, step)."""

    ends: list[tuple[int, State]]
    saved: dict[tuple[int, int], State]


@pytest.fixture(scope="module")
def stacked(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> Stacked:
    folder = LocalStorage(tmp_path_factory.mktemp("saved"))
    saved: dict[tuple[int, int], State] = {}

    def save(number: int, state: State) -> None:
        entry = Entry(folder, f"{number}-{state.step}.pt")
        checkpoint.save(state, entry)
        saved[number, state.step] = checkpoint.load(entry)

    with pytest.MonkeyPatch.context() as patch:
        make_curve_dense(patch)
        ends = list(train_stack(many(trunk), [trunk_end] * 8, runtime, save=save, save_seconds=0.0))
    return Stacked(ends, saved)


@pytest.mark.usefixtures("dense_curve")
def test_a_stack_trains_each_branch_as_if_it_were_alone(
    trunk: SegmentConfig, trunk_end: State, stacked: Stacked, runtime: Runtime
) -> None:
    configs = many(trunk)
    assert len({config.stack for config in configs}) == 1
    ends = stacked.ends
    lengths = [configs[number].end for number, _ in ends]
    assert lengths == sorted(lengths), "each is handed over as it ends"
    for number, end in ends:
        alone = train(configs[number], trunk_end, runtime)
        alike(end, alone)
        assert (end.stack, alone.stack) == (8, 1)
        assert evaluate(configs[number], end, runtime).loss == pytest.approx(
            evaluate(configs[number], alone, runtime).loss, abs=1e-4
        )


def test_a_second_phase_in_full_precision_is_a_branch_like_others(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime
) -> None:
    quantized = branch(trunk, "paretoq", 4, 38)
    control = replace(quantized, quantization=None)
    assert control.stack == quantized.stack
    ends = dict(train_stack([control, quantized], [trunk_end] * 2, runtime))
    for number, config in enumerate((control, quantized)):
        alike(ends[number], train(config, trunk_end, runtime))
    assert ends[0].ranges == {}
    assert evaluate(control, ends[0], runtime).loss < evaluate(quantized, ends[1], runtime).loss
    # Only the rates set it apart from a cooldown of the same steps.
    cooldown = replace(control, kind="cooldown", switch=None)
    alone = replace(SWITCH, learning_rate=1.0, rewarmup_steps=0)
    same = train(replace(control, switch=alone), trunk_end, runtime)
    torch.testing.assert_close(same.weights, train(cooldown, trunk_end, runtime).weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    "activation",
    [EIGHT_BITS, *(Activation(quantizer=name, bits=8, granularity="token") for name in ("rtn", "quest"))],
    ids=lambda a: a.quantizer,
)
def test_quantized_activations_have_ranges_of_their_own(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime, activation: Activation
) -> None:
    configs = many(trunk, activation)
    assert configs[0].stack != many(trunk)[0].stack
    # Few steps: at thresholds of rounding a difference in the last digit becomes one of a level.
    configs = [replace(config, end=34) for config in configs[:6]]
    for number, end in train_stack(configs, [trunk_end] * len(configs), runtime):
        alike(end, train(configs[number], trunk_end, runtime), tolerance=1e-4)
        assert any(".input:" in name for name in end.ranges) == bool(
            registry.create(activation.quantizer, 8).parameters
        )


def test_branches_of_different_switch_points_see_their_own_text(trunk: SegmentConfig, runtime: Runtime) -> None:
    early, late = replace(trunk, end=6), replace(trunk, end=12)
    trunks = [train(config, start_state(config), runtime) for config in (early, late)]
    configs = [branch(config, "paretoq", 2, 20, decay_start=15) for config in (early, late)]
    configs.append(replace(late, kind="cooldown", start=12, end=16))
    begins = [*trunks, trunks[1]]
    for number, end in train_stack(configs, begins, runtime):
        alike(end, train(configs[number], begins[number], runtime))


def test_trunks_of_several_seeds_are_trained_together(trunk: SegmentConfig, runtime: Runtime) -> None:
    configs = [
        replace(trunk, end=12, seed=seed, learning_rate=rate) for seed, rate in ((1, 0.02), (2, 0.02), (1, 0.01))
    ]
    begins = [start_state(config) for config in configs]
    for number, end in train_stack(configs, begins, runtime):
        alike(end, train(configs[number], begins[number], runtime))


@pytest.mark.usefixtures("dense_curve")
def test_one_that_diverges_leaves_and_takes_nobody_with_it(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime
) -> None:
    configs = [
        branch(trunk, "paretoq", 2, 43),
        branch(trunk, "lsq", 4, 43, learning_rate=1e30),
        branch(trunk, "rtn", 4, 43),
    ]
    begins = [trunk_end, trunk_end, replace(trunk_end, status="diverged")]
    ends = list(train_stack(configs, begins, runtime))
    assert [number for number, _ in ends] == [2, 1, 0]
    found = dict(ends)
    assert (found[1].status, found[2].status) == ("diverged", "diverged")
    assert found[1].step == found[2].step == 43
    assert len(found[1].curve) < len(found[0].curve)
    alike(found[0], train(configs[0], trunk_end, runtime))


@pytest.mark.usefixtures("dense_curve")
def test_what_was_saved_in_a_stack_goes_on_alone_or_in_another(
    trunk: SegmentConfig, trunk_end: State, stacked: Stacked, runtime: Runtime
) -> None:
    configs, saved, whole = many(trunk), stacked.saved, dict(stacked.ends)
    watched: set[int] = set()
    assert {(0, 35), (0, 40), (2, 35), (7, 40)} <= saved.keys()
    for number in (0, 3, 7):
        alike(train(configs[number], saved[number, 40], runtime), whole[number])
    begins = [saved[0, 40], saved[1, 35], trunk_end, saved[7, 35]]
    again = [configs[number] for number in (0, 1, 3, 7)]
    for number, end in train_stack(again, begins, runtime, watch=lambda number, _: watched.add(number)):
        alike(end, whole[(0, 1, 3, 7)[number]])
    assert watched <= {0, 1, 2, 3}


def test_a_stack_of_one_is_training_alone_bit_for_bit(trunk: SegmentConfig, trunk_end: State, runtime: Runtime) -> None:
    config = branch(trunk, "paretoq", 2, 40)
    ((_, end),) = train_stack([config], [trunk_end], runtime)
    alone = train(config, trunk_end, runtime)
    assert end.curve == alone.curve
    assert all(torch.equal(end.weights[name], alone.weights[name]) for name in alone.weights)


@pytest.mark.parametrize("entry", registry.ENTRIES, ids=lambda entry: entry.name)
@pytest.mark.parametrize("group_size", [None, 8, "tensor"])
def test_weights_quantized_in_one_call_are_those_of_many(entry: registry.QuantizerEntry, group_size: object) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(6, 16, generator=generator, requires_grad=True) for _ in range(3)]
    quantizer = registry.create(entry.name, 4)
    quantized = [QuantizedWeight(weight, quantizer, group_size) for weight in weights]  # type: ignore[arg-type]
    leaves = [*weights, *(value for own in quantized for value in own.ranges.learned.values())]
    slope = torch.randn(3, 6, 16, generator=generator)
    together = fake_stack(quantized, weights)
    single = torch.stack([own.fake(weight) for own, weight in zip(quantized, weights, strict=True)])
    torch.testing.assert_close(together, single)
    torch.testing.assert_close(torch.autograd.grad(together, leaves, slope), torch.autograd.grad(single, leaves, slope))


def test_the_stacked_model_is_the_models_one_by_one() -> None:
    shape, device = Shape(vocabulary=32, width=16, layers=2, heads=2, feed_forward=16), torch.device("cpu")
    weights = [[*first_weights(shape, torch.Generator().manual_seed(seed)).values()] for seed in range(3)]
    for tensor in itertools.chain(*weights):
        tensor.requires_grad_()
    text = torch.randint(0, 32, (3, 2, 17), generator=torch.Generator().manual_seed(5))
    tokens, targets = text[..., :-1].contiguous(), text[..., 1:].contiguous()
    one = make_forward(shape, 16, device)
    losses = torch.stack([one(*arguments) for arguments in zip(weights, tokens, targets, strict=True)])
    stack = make_forward(shape, 16, device, models=3)
    found = stack([torch.stack(parts) for parts in zip(*weights, strict=True)], tokens.view(6, 16), targets.view(6, 16))
    torch.testing.assert_close(found.view(3, 2), losses)
    flat = [tensor for model in weights for tensor in model]
    torch.testing.assert_close(torch.autograd.grad(found.sum(), flat), torch.autograd.grad(losses.sum(), flat))


@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
def test_a_compiled_stack_is_an_eager_one(runtime: Runtime, trunk: SegmentConfig) -> None:
    shape = Shape(vocabulary=256, width=16, layers=1, heads=2, feed_forward=16)
    config = replace(trunk, shape=shape, end=6)
    configs = [replace(config, seed=seed) for seed in (1, 2)]
    begins = [start_state(each) for each in configs]
    for number, end in train_stack([replace(each, backend="compiled") for each in configs], begins, runtime):
        assert end.stack == 2
        alike(end, train(configs[number], begins[number], runtime), tolerance=1e-4)


def test_every_size_of_a_compiled_stack_is_a_power_of_two() -> None:
    assert stack_sizes(7, "eager") == [7]
    assert [stack_sizes(number, "compiled") for number in (1, 2, 3, 7, 8)] == [[1], [2], [2, 1], [4, 2, 1], [8]]
