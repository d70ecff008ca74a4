"""bfloat16 in the products of matrices and nowhere else: near float32, resumable bit for bit, named apart."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from support.segments import end_of

from qatplan import runs
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Machine, build
from qatplan.sweeping.specification import read
from qatplan.sweeping.tokens import prepare_tokens
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.runtime import Runtime
from qatplan.training.segment import Activation, Quantization, SegmentConfig, Switch, from_json
from qatplan.training.shape import shape_of_width
from qatplan.training.stack import train_stack
from qatplan.training.trainer import evaluate, start_state, train

SWITCH = Switch(learning_rate=0.8, scale_learning_rate=1.0, optimizer_state="kept", rewarmup_steps=2, decay_start=40)
QUANTIZATION = Quantization(quantizer="paretoq", bits=4, group_size=None, embedding_bits=4)
SPECIFICATION = """
[corpus]
path = "text.txt"
[training]
sequence = 32
sequences = 8
warmup = "2K"
validation_tokens = "4K"
backend = "eager"
precision = "bfloat16"
[[grid]]
widths = 16
tokens = "12800"
bits = 4
fractions = [0, 0.4]
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(f"The {n} bottles stood on wall number {n * 7 % 13}." for n in range(2500)))
    return path


@pytest.fixture(scope="module")
def runtime(text: Path) -> Runtime:
    torch.set_num_threads(1)
    prepare(Source(path=str(text)), text.parent / "prepared")
    return Runtime(open_corpus(text.parent / "prepared"), "cpu")


@pytest.fixture(scope="module")
def full(runtime: Runtime) -> SegmentConfig:
    return SegmentConfig(
        kind="trunk", shape=shape_of_width(16), seed=1, corpus=runtime.corpus.info.digest, start=0, end=40,
        sequences=4, sequence=32, learning_rate=0.02, warmup_steps=5, weight_decay=0.1, backend="eager", device="cpu",
        validation_tokens=2048, evaluate=True,
    )  # fmt: skip


def test_only_another_precision_has_another_name(full: SegmentConfig) -> None:
    mixed = replace(full, precision="bfloat16")
    assert mixed.digest(None) != full.digest(None)
    assert mixed.trunk_digest() != full.trunk_digest()
    assert mixed.stack != full.stack
    assert from_json(asdict(mixed)) == mixed
    # As they were before there was a choice.
    plain = replace(full, corpus="c")
    assert plain.digest(None) == "e1befe5085632ab2e23e"
    assert plain.trunk_digest() == "d0da76d879b9d0b65261"


@pytest.mark.parametrize("quantizer", ["beta-gamma", "quest"])
def test_losses_are_near_and_what_is_learned_stays_float32(
    full: SegmentConfig, runtime: Runtime, quantizer: str
) -> None:
    activation = Activation(quantizer=quantizer, bits=8, granularity="token")
    ends: dict[str, list[State]] = {}
    for precision in ("float32", "bfloat16"):
        trunk = replace(full, precision=precision)
        first = train(trunk, start_state(trunk), runtime)
        quantization = replace(QUANTIZATION, activation=activation)
        phase = replace(trunk, kind="qat", start=40, end=70, quantization=quantization, switch=SWITCH)
        ends[precision] = [first, train(phase, first, runtime)]
        judged = [
            evaluate(replace(phase, precision=by), ends[precision][1], runtime).loss for by in ("float32", "bfloat16")
        ]
        assert judged[0] == pytest.approx(judged[1], abs=0.02)
        assert judged[0] != judged[1]
    for exact, rounded in zip(ends["float32"], ends["bfloat16"], strict=True):
        assert exact.curve != rounded.curve
        assert [loss for _, loss in rounded.curve] == pytest.approx([loss for _, loss in exact.curve], abs=0.1)
        kept = [*rounded.weights.values(), *rounded.ranges.values()]
        assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_losses_are_float32_and_activations_are_quantized_in_it(full: SegmentConfig, runtime: Runtime) -> None:
    mixed = replace(full, precision="bfloat16")
    weights = list(start_state(full).weights.values())
    batch = runtime.batch(full, 0)
    exact, rounded = (runtime.forward(config)(weights, *batch) for config in (full, mixed))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0.01)


def test_resuming_changes_no_bit_and_a_stack_is_the_same(full: SegmentConfig, runtime: Runtime) -> None:
    mixed = replace(full, precision="bfloat16")
    saved: list[State] = []
    whole = train(mixed, start_state(mixed), runtime, save=saved.append, save_seconds=0.0)
    assert saved[0].step == 25
    again = train(mixed, saved[0], runtime)
    assert again.curve == whole.curve
    assert all(torch.equal(again.weights[name], whole.weights[name]) for name in whole.weights)
    other = replace(mixed, learning_rate=0.01)
    ends = dict(train_stack([mixed, other], [start_state(mixed)] * 2, runtime))
    assert [loss for _, loss in ends[0].curve] == pytest.approx([loss for _, loss in whole.curve], abs=0.02)


def test_every_run_of_a_sweep_says_its_precision(text: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(SPECIFICATION.replace("text.txt", str(text)))
    specification, folder = read(path), SweepFolder(tmp_path / "out")
    machine = Machine(device="cpu", can_compile=False)
    graph = build(specification, prepare_tokens(specification.corpus, folder), machine)
    runtime = Runtime(open_corpus(tmp_path / "out" / "corpus"), "cpu")
    for segment in graph.segments.values():
        assert end_of(segment, folder, runtime, save_end=True).kind == "done"
    table = runs.read([tmp_path / "out"])
    assert runs.validate(table) == []
    assert len(graph.runs) == table.num_rows == 3
    assert set(table["precision"].to_pylist()) == {"bfloat16"}
    assert all(0 < loss < 5 for loss in table["loss"].to_pylist())
    exact = replace(specification, training=replace(specification.training, precision="float32"))
    assert not build(exact, runtime.corpus.info, machine).segments.keys() & graph.segments.keys()
