"""Exported models: the file gives back the loss of the fake-quantized model, in the bytes that planning predicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qatplan.errors import DataError, UsageError
from qatplan.models.architecture import Architecture
from qatplan.models.memory import estimate
from qatplan.quant.stored import store
from qatplan.quant.weight import QuantizedWeight
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.export import model_file
from qatplan.training.export.exported import ExportedModel, Weight, exported
from qatplan.training.model.decoder import first_weights
from qatplan.training.model.quantized import is_quantized, quantizer_of
from qatplan.training.recipes import RECIPES, MixedWidths
from qatplan.training.runtime import Runtime
from qatplan.training.segment import Activation, Quantization, SegmentConfig, Switch
from qatplan.training.shape import shape_of_width
from qatplan.training.trainer import evaluate, evaluated_tensors, start_state, train

SWITCH = Switch(learning_rate=0.8, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=2, decay_start=20)
TOKENS = Activation(quantizer="beta-gamma", bits=8, granularity="token")
TENSOR = Activation(quantizer="lsq", bits=8, granularity="tensor")
ROTATED = Activation(quantizer="quest", bits=8, granularity="token")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text("\n".join(f"The {n} bottles stood on wall {n * 7 % 13}." for n in range(2500)))
    prepare(Source(path=str(folder / "text.txt")), folder / "prepared")
    return Runtime(open_corpus(folder / "prepared"), "cpu")


@pytest.fixture(scope="module")
def trunk(runtime: Runtime) -> SegmentConfig:
    return SegmentConfig(
        kind="trunk", shape=shape_of_width(16), seed=1, corpus=runtime.corpus.info.digest, start=0, end=20,
        sequences=4, sequence=32, learning_rate=0.02, warmup_steps=5, weight_decay=0.1, backend="eager", device="cpu",
        validation_tokens=512, evaluate=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(trunk: SegmentConfig, runtime: Runtime) -> State:
    return train(trunk, start_state(trunk), runtime)


def quantization(quantizer: str, bits: float, **changes: object) -> Quantization:
    fields = {"quantizer": quantizer, "bits": bits, "group_size": None, "embedding_bits": max(bits, 4), **changes}
    return Quantization(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "choice",
    [
        quantization("paretoq", 1),
        quantization("paretoq", 1.58),
        quantization("paretoq", 2, group_size=8),
        quantization("lsq", 4, group_size="tensor"),
        quantization("rtn", 3),
        quantization("min-max", 4, activation=TOKENS),
        quantization("beta-gamma-sigmoid", 2, group_size=8),
        quantization("lsq-softclamp-sigmoid", 3, activation=TENSOR),
        quantization("quest", 4, group_size=8),
        quantization("quest", 4, activation=ROTATED),
        quantization("paretoq", 2, activation=ROTATED),
    ],
    ids=lambda q: f"{q.quantizer}-{q.bits:g}-{q.group_size}-{'A' if q.activation else ''}",
)
def test_a_trained_model_comes_back_from_its_file(
    choice: Quantization, trunk: SegmentConfig, trained: State, runtime: Runtime
) -> None:
    config = replace(trunk, kind="qat", start=20, end=26, quantization=choice, switch=SWITCH)
    state = train(config, trained, runtime)
    back = model_file.decode(model_file.encode(exported(config, state, runtime)), "a model")
    assert back.config == replace(config, switch=None)
    expected = evaluated_tensors(config, state, runtime)
    for found, tensor in zip(back.tensors(), expected, strict=True):
        torch.testing.assert_close(found, tensor, rtol=1e-5, atol=1e-6)
    assert back.evaluate(runtime).loss == pytest.approx(evaluate(config, state, runtime).loss, rel=1e-6)


@pytest.mark.parametrize(
    ("quantizer", "method"), [("paretoq", "rtn"), ("paretoq", "importance"), ("quest", "importance")]
)
def test_a_model_rounded_after_training_comes_back_from_its_file(
    quantizer: str, method: str, trunk: SegmentConfig, trained: State, runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(RECIPES, "importance", MixedWidths(calibration_tokens=512))
    choice = quantization(quantizer, 3, post_training=method, activation=TOKENS)
    config = replace(trunk, kind="round", start=20, end=20, quantization=choice)
    back = model_file.decode(model_file.encode(exported(config, trained, runtime)), "a model")
    assert back.evaluate(runtime).loss == pytest.approx(evaluate(config, trained, runtime).loss, rel=1e-6)


@pytest.mark.parametrize("width", [16, 64, 192])
@pytest.mark.parametrize(("quantizer", "form"), [("paretoq", "int2:f"), ("min-max", "int4:g8:z:f"), ("rtn", "int3:f")])
def test_planning_predicts_the_size_of_a_file(width: int, quantizer: str, form: str) -> None:
    bits, group_size = float(form[3]), 8 if "g8" in form else None
    choice = quantization(quantizer, bits, group_size=group_size)
    shape = shape_of_width(width)
    weights: dict[str, Weight] = {}
    for name, weight in first_weights(shape, torch.Generator().manual_seed(0)).items():
        weights[name] = weight.detach()
        if is_quantized(name):
            quantized = QuantizedWeight(weight.detach(), quantizer_of(name, choice), group_size)
            weights[name] = store(quantized.rounded(weight.detach()))
    config = SegmentConfig(
        kind="qat", shape=shape, seed=0, corpus="0" * 64, start=342, end=488, sequences=16, sequence=128,
        learning_rate=0.0045, warmup_steps=49, weight_decay=0.1, backend="compiled", device="cpu",
        validation_tokens=131072, evaluate=True, quantization=choice,
    )  # fmt: skip
    size = len(model_file.encode(ExportedModel(config=config, weights=weights, ranges={})))
    model = Architecture(
        name="", layers=shape.layers, width=width, heads=shape.heads, kv_heads=shape.heads, head_size=shape.head_size,
        feed_forward=shape.feed_forward, vocabulary=256, tied=True,
    )  # fmt: skip
    assert estimate(model, form=form, context=1).weights_bytes == pytest.approx(size, rel=0.01)


def test_full_precision_and_foreign_files_are_refused(trunk: SegmentConfig, trained: State, runtime: Runtime) -> None:
    with pytest.raises(UsageError, match="no integer codes"):
        exported(trunk, trained, runtime)
    with pytest.raises(DataError, match="a model cannot be read as an exported model"):
        model_file.decode(b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "a model")
