"""Post-training methods on a small trained model: what they gain over rounding to nearest, and that they repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch

from qatplan.models.formats import own
from qatplan.quant import registry
from qatplan.quant.stored import pack
from qatplan.quant.weight import RoundedWeight, rounded
from qatplan.training.checkpoint import State
from qatplan.training.model.decoder import BLOCK_TENSORS, make_block
from qatplan.training.model.quantized import is_quantized
from qatplan.training.post_training import adaround as reconstruction
from qatplan.training.post_training.methods import (
    calibration_batches,
    calibration_tokens,
    extra_bits,
    measured_importance,
    quantize_after_training,
)
from qatplan.training.recipes import RECIPES, AdaRound, MixedWidths
from qatplan.training.runtime import Runtime
from qatplan.training.segment import Activation, Quantization, SegmentConfig
from qatplan.training.shape import shape_of_width
from qatplan.training.trainer import evaluate, evaluated_tensors, loss_of, start_state, train

QUICK = AdaRound(iterations=120, learning_rate=5e-2, batch_tokens=256, calibration_tokens=2048)
BRIEF = replace(QUICK, iterations=30)
"""Where it matters that rounding is learned, not how well."""
W4 = Quantization(quantizer="paretoq", bits=4, group_size=None, embedding_bits=4)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer steps and less text than a sweep takes, so that this file takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "adaround", QUICK)
        patch.setitem(RECIPES, "importance", MixedWidths(calibration_tokens=2048))
        yield


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "adaround", BRIEF)


@pytest.fixture(scope="module")
def trunk(runtime: Runtime) -> SegmentConfig:
    return SegmentConfig(
        kind="trunk", shape=shape_of_width(16), seed=1, corpus=runtime.corpus.info.digest, start=0, end=300,
        sequences=4, sequence=32, learning_rate=0.005, warmup_steps=5, weight_decay=0.1, backend="eager", device="cpu",
        validation_tokens=2048, evaluate=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(trunk: SegmentConfig, runtime: Runtime) -> State:
    return train(trunk, start_state(trunk), runtime)


def rounding(trunk: SegmentConfig, method: str = "rtn", **changes: object) -> SegmentConfig:
    quantization = replace(W4, post_training=method, **changes)  # type: ignore[arg-type]
    return replace(trunk, kind="round", start=trunk.end, quantization=quantization)


Quantize = Callable[[SegmentConfig], dict[str, RoundedWeight]]


@pytest.fixture(scope="module")
def quantized(trained: State, runtime: Runtime, quick: None) -> Quantize:
    """The trained model's matrices as codes, found once for each configuration and recipe."""
    found = cache(lambda config, recipe: quantize_after_training(config, trained.weights, runtime))
    return lambda config: found(config, RECIPES[config.quantization.post_training])


def decoded(found: dict[str, RoundedWeight], trained: State) -> dict[str, torch.Tensor]:
    return {name: found[name].values() if name in found else weight for name, weight in trained.weights.items()}


# At 4 bits so small a model loses less by rounding than chance gives or takes.
@pytest.mark.parametrize("bits", [2, 3])
def test_adaround_recovers_part_of_what_rounding_loses(
    trunk: SegmentConfig, trained: State, quantized: Quantize, runtime: Runtime, bits: int
) -> None:
    full = evaluate(trunk, trained, runtime).loss
    nearest, learned = (
        loss_of(config, list(decoded(quantized(config), trained).values()), runtime).loss
        for config in (rounding(trunk, method, bits=bits) for method in ("rtn", "adaround"))
    )
    assert full < learned < nearest
    assert nearest - learned > 0.4 * (nearest - full)


@pytest.mark.parametrize("bits", [2, 4])
def test_adaround_leaves_the_layers_nearer_to_their_outputs(
    trunk: SegmentConfig, trained: State, quantized: Quantize, runtime: Runtime, bits: int
) -> None:
    tokens = calibration_tokens(trunk, runtime, 2048)
    block = make_block(trunk.shape, trunk.sequence, runtime.device)

    def streams(weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        found = [weights["embedding"][tokens]]
        for layer in range(trunk.shape.layers):
            tensors = [weights[f"blocks.{layer}.{name}"] for name in BLOCK_TENSORS]
            found.append(block(tensors, found[-1], layer, ()))
        return found

    exact = streams(trained.weights)
    nearest = streams(decoded(quantized(rounding(trunk, bits=bits)), trained))
    learned = streams(decoded(quantized(rounding(trunk, "adaround", bits=bits)), trained))
    assert torch.equal(learned[0], nearest[0]), "the embedding is rounded to nearest by both"
    for target, rtn, adaround in list(zip(exact, nearest, learned, strict=True))[1:]:
        assert (adaround - target).square().sum() < (rtn - target).square().sum()


def test_adaround_moves_each_weight_to_a_neighbouring_level(trunk: SegmentConfig, quantized: Quantize) -> None:
    nearest, learned = quantized(rounding(trunk)), quantized(rounding(trunk, "adaround"))
    for name, weight in learned.items():
        assert torch.equal(weight.grid.step, nearest[name].grid.step)
        assert (weight.codes - nearest[name].codes).abs().max() <= 1
        assert (weight.codes != nearest[name].codes).any() == (name != "embedding")


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("method", ["adaround", "importance"])
def test_repeating_changes_no_bit_and_another_seed_does(
    trunk: SegmentConfig, trained: State, quantized: Quantize, runtime: Runtime, method: str
) -> None:
    config = rounding(trunk, method, bits=3, group_size=8)
    first, second, other = (
        decoded(found, trained)
        for found in (
            quantized(config),
            quantize_after_training(config, trained.weights, runtime),
            quantize_after_training(replace(config, seed=2), trained.weights, runtime),
        )
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_calibration_is_training_text_after_what_was_trained_on(trunk: SegmentConfig, runtime: Runtime) -> None:
    batches = calibration_batches(trunk, runtime, 500)
    assert len(batches) == 4, "500 tokens are four batches of 128"
    for number, (tokens, targets) in enumerate(batches):
        expected, following = runtime.batch(trunk, trunk.end + number)
        assert torch.equal(tokens, expected)
        assert torch.equal(targets, following)


def test_importance_is_the_gradient_of_the_full_precision_loss(
    trunk: SegmentConfig, trained: State, runtime: Runtime
) -> None:
    """dL / d(1 - row) by central differences, on one batch: a row of one sign has |sum| = sum | |."""
    config = rounding(trunk, "importance")
    found = measured_importance(config, trained.weights, runtime, 128)
    assert set(found) == {name for name in trained.weights if is_quantized(name) and name != "embedding"}
    forward = runtime.forward(trunk)
    tokens, targets = runtime.batch(config, config.end)
    name, index = "blocks.0.down", 3
    total = 0.0
    for column in range(trained.weights[name].shape[1]):
        losses = []
        for factor in (1.01, 0.99):
            weights = {key: weight.double() for key, weight in trained.weights.items()}
            weights[name] = weights[name].clone()
            weights[name][index, column] *= factor
            losses.append(float(forward(list(weights.values()), tokens, targets).mean()))
        total += abs(losses[0] - losses[1]) / 0.02
    assert float(found[name][index]) == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("group_size", [None, 8])
def test_mixed_widths_average_the_asked_bits_and_take_the_planned_bytes(
    trunk: SegmentConfig, quantized: Quantize, group_size: int | None
) -> None:
    found = quantized(rounding(trunk, "importance", bits=3, group_size=group_size))
    matrices = [weight for name, weight in found.items() if name != "embedding"]
    bits = sum(float(weight.bits.expand(weight.codes.shape).sum()) for weight in matrices)
    assert bits == 3 * sum(weight.codes.numel() for weight in matrices)
    for weight in matrices:
        assert set(weight.bits.flatten().tolist()) <= {2, 3, 4}
        assert (weight.codes.amax(dim=1, keepdim=True) < 2**weight.bits).all()
    packed = sum(len(pack(row, 2 ** int(width))) for w in matrices for row, width in zip(w.codes, w.bits, strict=True))
    assert packed == 3 * sum(weight.codes.numel() for weight in matrices) // 8
    # With two bytes per scale and a byte per output neuron for its width, that is what planning counts.
    stored = packed + sum(2 * len(w.codes) + w.shape[0] for w in matrices)
    assert stored == sum(own(3, group_size=group_size, mixed=True).bytes_of(*w.shape) for w in matrices)
    assert found["embedding"].bits == 4


def test_bits_by_importance_beat_bits_by_chance_and_those_beat_bits_by_unimportance(
    trunk: SegmentConfig, trained: State, runtime: Runtime
) -> None:
    importance = measured_importance(rounding(trunk, "importance"), trained.weights, runtime, 2048)
    generator = torch.Generator().manual_seed(0)
    rankings = (
        importance,
        {name: torch.rand(len(values), generator=generator) for name, values in importance.items()},
        {name: -values for name, values in importance.items()},
    )
    quantizers = [registry.create("paretoq", bits) for bits in (1, 2, 3)]
    by_width = {
        name: torch.stack([rounded(trained.weights[name], quantizer, None).values() for quantizer in quantizers])
        for name in importance
    }
    losses = []
    for ranking in rankings:
        extra = extra_bits(ranking, {name: trained.weights[name].shape[1] for name in ranking}, 0.25)
        weights = trained.weights | {
            name: by_width[name][choice.long() + 1, torch.arange(len(choice))] for name, choice in extra.items()
        }
        losses.append(evaluate(trunk, replace(trained, weights=weights), runtime).loss)
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("method", ["adaround", "importance"])
@pytest.mark.parametrize(("quantizer", "granularity"), [("beta-gamma", "token"), ("lsq", "tensor")])
def test_activations_are_quantized_too(
    trunk: SegmentConfig, trained: State, runtime: Runtime, method: str, quantizer: str, granularity: str
) -> None:
    activation = Activation(quantizer=quantizer, bits=6, granularity=granularity)  # type: ignore[arg-type]
    config = rounding(trunk, method, bits=3, activation=activation)
    tensors = evaluated_tensors(config, trained, runtime)
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert len(tensors) == len(trained.weights) + 8 * len(registry.create(quantizer, 6).parameters)
    if method == "adaround":
        nearest = evaluate(rounding(trunk, bits=3, activation=activation), trained, runtime).loss
        assert loss_of(config, tensors, runtime).loss < nearest


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("method", ["rtn", "adaround", "importance"])
def test_rotated_activations_meet_turned_weights(
    trunk: SegmentConfig, trained: State, quantized: Quantize, runtime: Runtime, method: str
) -> None:
    activation = Activation(quantizer="quest", bits=8, granularity="token")
    found = evaluate(rounding(trunk, method, bits=3, activation=activation), trained, runtime).loss
    without = rounding(trunk, method, bits=3)
    plain = loss_of(without, list(decoded(quantized(without), trained).values()), runtime).loss
    assert found != plain
    assert found == pytest.approx(plain, abs=0.01), "8 bits cost little"


def test_asymmetric_grids_are_rounded_and_learned(trunk: SegmentConfig, trained: State, runtime: Runtime) -> None:
    losses = [
        evaluate(rounding(trunk, method, bits=3, quantizer="min-max"), trained, runtime).loss
        for method in ("rtn", "adaround")
    ]
    assert losses[1] < losses[0]


@pytest.mark.usefixtures("brief")
def test_all_zero_and_constant_rows_are_harmless(trunk: SegmentConfig, trained: State, runtime: Runtime) -> None:
    weights = {name: weight.clone() for name, weight in trained.weights.items()}
    weights["blocks.0.gate_up"][:4] = 0.0
    weights["blocks.1.output"][2] = 0.05
    damaged = replace(trained, weights=weights)
    for method in RECIPES:
        quantizer = "min-max" if method == "adaround" else "paretoq"
        tensors = evaluated_tensors(rounding(trunk, method, bits=3, quantizer=quantizer), damaged, runtime)
        assert all(tensor.isfinite().all() for tensor in tensors)
        named = dict(zip(weights, tensors, strict=True))
        assert named["blocks.0.gate_up"][:4].abs().max() < 1e-4


def test_the_regulariser_sets_in_after_a_fifth_and_its_exponent_falls_to_two() -> None:
    recipe = AdaRound(iterations=1000)
    found = [reconstruction.exponent_at(recipe, step) for step in (0, 199, 200, 600, 999)]
    assert found[:2] == [None, None]
    assert found[2:] == pytest.approx([20.0, 11.0, 2.0], abs=0.03)


def test_methods_name_different_segments_and_rounding_to_nearest_keeps_its_name(trunk: SegmentConfig) -> None:
    names = {method: rounding(trunk, method).digest("parent") for method in RECIPES}
    assert len(set(names.values())) == len(RECIPES)
    plain = replace(trunk, corpus="corpus", seed=0, end=100, learning_rate=0.02)
    assert rounding(plain).digest("parent") == "ef67e45e2733120b987d"
