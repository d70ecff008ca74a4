"""Training segments for real on a small text: resuming, switching, diverging, and what is evaluated."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qatplan.errors import DataError
from qatplan.quant import registry
from qatplan.quant.paretoq import paretoq
from qatplan.quant.weight import rounded as rounded_weight
from qatplan.storage.base import Entry
from qatplan.storage.local import LocalStorage
from qatplan.training import checkpoint
from qatplan.training.checkpoint import State
from qatplan.training.model.compilation import compiled
from qatplan.training.model.decoder import first_weights, make_forward
from qatplan.training.model.operations import compiled_operations
from qatplan.training.model.quantized import QuantizedModel
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import Activation, Quantization, SegmentConfig, Switch
from qatplan.training.shape import Shape
from qatplan.training.trainer import evaluate, evaluated_tensors, start_state, train

QUANTIZATION = Quantization(quantizer="paretoq", bits=2, group_size=None, embedding_bits=4)
SWITCH = Switch(
    learning_rate=0.8, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=2, decay_start=60
)  # fmt: skip


@pytest.fixture(scope="module")
def trunk_end(trunk: SegmentConfig, runtime: Runtime) -> State:
    return train(trunk, start_state(trunk), runtime)


def same(left: State, right: State) -> bool:
    return (
        left.step == right.step
        and left.curve == right.curve
        and all(torch.equal(left.weights[name], right.weights[name]) for name in right.weights)
        and all(torch.equal(left.ranges[name], right.ranges[name]) for name in right.ranges)
        and all(torch.equal(left.moments[n][k], right.moments[n][k]) for n in right.moments for k in right.moments[n])
    )


def entry(folder: Path, name: str) -> Entry:
    return Entry(LocalStorage(folder), name)


def test_training_learns(trunk: SegmentConfig, trunk_end: State, runtime: Runtime) -> None:
    before = evaluate(trunk, start_state(trunk), runtime)
    after = evaluate(trunk, trunk_end, runtime)
    assert before.loss == pytest.approx(math.log(256), abs=0.5)
    assert after.loss < 0.7 * before.loss
    assert 0 < after.standard_error < 0.1
    assert [tokens for tokens, _ in trunk_end.curve] == [25 * 128, 50 * 128, 60 * 128]
    assert trunk_end.status == "finished"


@pytest.mark.usefixtures("dense_curve")
def test_cutting_a_trunk_changes_no_bit(trunk: SegmentConfig, runtime: Runtime, tmp_path: Path) -> None:
    trunk = replace(trunk, end=17)
    whole = train(trunk, start_state(trunk), runtime)
    first = train(replace(trunk, end=10), start_state(trunk), runtime)
    checkpoint.save(first, entry(tmp_path, "a.pt"))
    second = train(replace(trunk, start=10), checkpoint.load(entry(tmp_path, "a.pt")), runtime)
    assert same(second, whole)


@pytest.mark.usefixtures("dense_curve")
@pytest.mark.parametrize("optimizer_state", ["kept", "reset"])
def test_resuming_within_a_qat_phase_changes_no_bit(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime, tmp_path: Path, optimizer_state: str
) -> None:
    config = replace(
        trunk, kind="qat", start=60, end=78, quantization=QUANTIZATION,
        switch=replace(SWITCH, optimizer_state=optimizer_state),
    )  # fmt: skip
    saved: list[State] = []

    def save(state: State) -> None:
        checkpoint.save(state, entry(tmp_path, f"{state.step}.pt"))
        saved.append(state)

    whole = train(config, trunk_end, runtime, save=save, save_seconds=0.0)
    assert [state.step for state in saved] == [65, 70, 75]
    for step in (65, 75):
        assert same(train(config, checkpoint.load(entry(tmp_path, f"{step}.pt")), runtime), whole)
    assert any((ratio != 1).any() for ratio in whole.ranges.values()), "scales are learned"


@pytest.mark.usefixtures("dense_curve")
@pytest.mark.parametrize("name", [entry.name for entry in registry.ENTRIES])
def test_resuming_changes_no_bit_whatever_quantizes_weights_and_activations(
    trunk: SegmentConfig, trunk_end: State, runtime: Runtime, tmp_path: Path, name: str
) -> None:
    live = registry.entry(name).live
    activation = Activation(quantizer=name, bits=4, granularity="token" if live else "tensor")
    quantization = Quantization(quantizer=name, bits=4, group_size=8, embedding_bits=4, activation=activation)
    config = replace(
        trunk, kind="qat", start=60, end=69, quantization=quantization, switch=replace(SWITCH, decay_start=66),
        validation_tokens=512,
    )  # fmt: skip

    def save(state: State) -> None:
        checkpoint.save(state, entry(tmp_path, "saved.pt"))

    whole = train(config, trunk_end, runtime, save=save, save_seconds=0.0)
    saved = checkpoint.load(entry(tmp_path, "saved.pt"))
    assert saved.step == 65
    resumed = train(config, saved, runtime)
    assert same(resumed, whole)
    assert evaluate(config, whole, runtime) == evaluate(config, resumed, runtime)
    learned = [key for key in whole.ranges if ".input:" in key]
    assert len(learned) == 8 * len(registry.create(name, 4).parameters), "four inputs in each of two layers"
    for key in whole.ranges:
        assert not torch.equal(whole.ranges[key], saved.ranges[key]), f"{key} is learned"


def test_kept_and_reset_moments_differ(trunk: SegmentConfig, trunk_end: State, runtime: Runtime) -> None:
    config = replace(trunk, kind="qat", start=60, end=64, quantization=QUANTIZATION, switch=SWITCH)
    kept = train(config, trunk_end, runtime)
    reset = train(replace(config, switch=replace(SWITCH, optimizer_state="reset")), trunk_end, runtime)
    assert int(kept.moments["embedding"]["step"]) == 64
    assert int(reset.moments["embedding"]["step"]) == 4
    assert not torch.equal(kept.weights["embedding"], reset.weights["embedding"])


def test_qat_recovers_what_rounding_loses(trunk: SegmentConfig, trunk_end: State, runtime: Runtime) -> None:
    full = evaluate(trunk, trunk_end, runtime).loss
    rounded = replace(trunk, kind="round", start=60, end=60, quantization=QUANTIZATION)
    after_rounding = evaluate(rounded, trunk_end, runtime).loss
    config = replace(trunk, kind="qat", start=60, end=110, quantization=QUANTIZATION, switch=SWITCH)
    end = train(config, trunk_end, runtime)
    assert after_rounding > full
    assert evaluate(config, end, runtime).loss < after_rounding
    assert len(end.first_losses) == 2


def test_evaluated_tensors_lie_on_the_grid(trunk: SegmentConfig, trunk_end: State, runtime: Runtime) -> None:
    config = replace(trunk, kind="qat", start=60, end=70, quantization=QUANTIZATION, switch=SWITCH)
    end = train(config, trunk_end, runtime)
    for name, weight in zip(end.weights, evaluated_tensors(config, end, runtime), strict=True):
        levels = torch.tensor([len(row.unique()) for row in weight]) if weight.ndim == 2 else torch.zeros(1)
        assert int(levels.max()) <= (16 if name == "embedding" else 4)
    rounded = replace(trunk, kind="round", start=60, end=60, quantization=QUANTIZATION)
    weights = dict(zip(trunk_end.weights, evaluated_tensors(rounded, trunk_end, runtime), strict=True))
    matrix = trunk_end.weights["blocks.0.down"]
    torch.testing.assert_close(weights["blocks.0.down"], rounded_weight(matrix, paretoq(2), None).values())
    assert torch.equal(weights["norm"], trunk_end.weights["norm"])


def test_divergence_is_a_status_not_a_crash(trunk: SegmentConfig, runtime: Runtime) -> None:
    wild = train(replace(trunk, learning_rate=1e30), start_state(trunk), runtime)
    assert wild.status == "diverged"
    after = train(replace(trunk, kind="cooldown", start=60, end=70), wild, runtime)
    assert (after.status, after.step) == ("diverged", 70)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 0.999])
def test_damaged_checkpoints_are_refused(trunk_end: State, tmp_path: Path, place: float) -> None:
    file = entry(tmp_path, "x.pt")
    checkpoint.save(trunk_end, file)
    assert same(checkpoint.load(file), trunk_end)
    data = bytearray(file.read())
    data[int(place * len(data))] ^= 1
    file.write(bytes(data))
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(file)
    file.write(bytes(data[: len(data) // 2]))
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(file)
    file.write(b"")
    with pytest.raises(DataError, match="damaged"):
        checkpoint.load(file)


def test_a_checkpoint_under_another_name_is_refused(trunk_end: State, tmp_path: Path) -> None:
    checkpoint.save(trunk_end, entry(tmp_path, "x.pt"))
    entry(tmp_path, "y.pt").write(entry(tmp_path, "x.pt").read())
    with pytest.raises(DataError, match=r"y\.pt is another segment's: it was written as x\.pt"):
        checkpoint.load(entry(tmp_path, "y.pt"))
    with pytest.raises(FileNotFoundError):
        checkpoint.load(entry(tmp_path, "z.pt"))


@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
def test_compiled_loss_and_gradients_agree_with_eager() -> None:
    shape = Shape(vocabulary=32, width=16, layers=1, heads=2, feed_forward=16)
    first = first_weights(shape, torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 32, (2, 17), generator=torch.Generator().manual_seed(1))
    device = torch.device("cpu")
    eager = make_forward(shape, 16, device)
    for_compiler = make_forward(shape, 16, device, operations=compiled_operations(16, shape.head_size, device))
    losses, gradients = [], []
    for forward in (eager, compiled(for_compiler, "test")):
        weights = [tensor.clone().requires_grad_() for tensor in first.values()]
        loss = forward(weights, tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        gradients.append(torch.autograd.grad(loss.sum(), weights))
        losses.append(loss.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not can_compile("cpu"), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["beta-gamma", "quest"])
def test_compiled_quantized_activations_agree_with_eager(runtime: Runtime, trunk: SegmentConfig, name: str) -> None:
    activation = Activation(quantizer=name, bits=4, granularity="token")
    quantization = Quantization(
        quantizer="min-max", bits=4, group_size=None, embedding_bits=4, activation=activation
    )  # fmt: skip
    shape = Shape(vocabulary=256, width=16, layers=1, heads=2, feed_forward=16)
    config = replace(trunk, shape=shape, quantization=quantization)
    tokens, targets = runtime.batch(config, 0)
    losses, gradients = [], []
    for backend in ("eager", "compiled"):
        weights = {name: tensor.requires_grad_() for name, tensor in start_state(config).weights.items()}
        model = QuantizedModel(weights, quantization)
        model.calibrate(weights, shape, tokens, targets)
        loss = runtime.forward(replace(config, backend=backend))(model.tensors(weights), tokens, targets)
        loss.mean().backward()
        losses.append(loss.detach())
        gradients.append([value.grad for value in (*weights.values(), *model.learned().values())])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])
