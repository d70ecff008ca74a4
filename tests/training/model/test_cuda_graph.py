"""Training steps recorded as CUDA graphs compute what steps launched kernel by kernel do; and that they can be recorded
can be seen without a GPU: nothing in them is read by the host."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from qatplan.quant import registry
from qatplan.training.checkpoint import State
from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.model.cuda_graph import WARM_UP_STEPS
from qatplan.training.model.decoder import first_weights, make_forward
from qatplan.training.model.quantized import QuantizedModel, activation_feed
from qatplan.training.runtime import Runtime, can_compile
from qatplan.training.segment import Activation, Quantization, SegmentConfig, Switch
from qatplan.training.shape import Shape, shape_of_width
from qatplan.training.stack import train_stack
from qatplan.training.trainer import start_state, train

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

SWITCH = Switch(learning_rate=0.5, scale_learning_rate=0.3, optimizer_state="kept", rewarmup_steps=3, decay_start=40)


def quantization(quantizer: str, bits: float = 4, activation: Activation | None = None) -> Quantization:
    return Quantization(
        quantizer=quantizer, bits=bits, group_size=None, embedding_bits=max(4, bits), activation=activation
    )


@pytest.mark.parametrize("granularity", [None, "token", "tensor"])
@pytest.mark.parametrize("entry", registry.ENTRIES, ids=lambda entry: entry.name)
def test_a_quantized_step_is_never_read_by_the_host(entry: registry.QuantizerEntry, granularity: str | None) -> None:
    """On the device `meta` tensors have no values, so that whoever asks for one raises."""
    device = torch.device("meta")
    shape = Shape(vocabulary=32, width=16, layers=1, heads=2, feed_forward=16)
    activation = granularity and Activation(quantizer=entry.name, bits=8, granularity=granularity)  # type: ignore[arg-type]
    weights = first_weights(shape, torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 32, (2, 8))
    model = QuantizedModel(weights, quantization(entry.name, activation=activation or None))
    model.calibrate(weights, shape, tokens, tokens)
    for ranges in [*(weight.ranges for weight in model.weights.values()), *model.inputs.values()]:
        ranges.starts = {name: value.to(device) for name, value in ranges.starts.items()}
        ranges.learned = {name: torch.nn.Parameter(value.to(device)) for name, value in ranges.learned.items()}
    there = {name: weight.to(device).requires_grad_() for name, weight in weights.items()}
    feed = [activation_feed(model.activation)] if model.activation is not None else []
    forward = make_forward(shape, 8, device, *feed)
    forward(model.tensors(there), tokens.to(device), tokens.to(device)).mean().backward()
    assert all(weight.grad is not None for weight in there.values())


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, Runtime]:
    """One that records, and one that launches kernel by kernel."""
    folder = tmp_path_factory.mktemp("corpus")
    text = "\n".join(f"The {n} bottles stood on wall number {n * 7 % 13}." for n in range(2500))
    (folder / "text.txt").write_text(text)
    prepare(Source(path=str(folder / "text.txt")), folder / "prepared")
    corpus = open_corpus(folder / "prepared")
    return Runtime(corpus, "cuda"), Runtime(corpus, "cuda", capture=False)


def trunk_of(runtime: Runtime, **changes: object) -> SegmentConfig:
    trunk = SegmentConfig(
        kind="trunk", shape=shape_of_width(64), seed=1, corpus=runtime.corpus.info.digest, start=0, end=30,
        sequences=4, sequence=64, learning_rate=0.01, warmup_steps=5, weight_decay=0.1, backend="eager", device="cuda",
        validation_tokens=2048, evaluate=True,
    )  # fmt: skip
    return replace(trunk, **changes)  # type: ignore[arg-type]


def branch_of(trunk: SegmentConfig, how: Quantization, end: int = 60, **switch: object) -> SegmentConfig:
    return replace(
        trunk, kind="qat", start=trunk.end, end=end, quantization=how,
        switch=replace(SWITCH, **switch),  # type: ignore[arg-type]
    )  # fmt: skip


def equal(left: State, right: State) -> bool:
    return left.curve == right.curve and all(
        torch.equal(tensor, right.weights[name]) for name, tensor in left.weights.items()
    )


@on_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_recorded_steps_are_launched_steps_bit_for_bit(
    runtimes: tuple[Runtime, Runtime], backend: str, precision: str
) -> None:
    if backend == "compiled" and not can_compile("cuda"):
        pytest.skip("needs triton")
    recorded, launched = runtimes
    trunk = trunk_of(recorded, backend=backend, precision=precision)
    ends = [train(trunk, start_state(trunk), runtime) for runtime in runtimes]
    assert equal(*ends)
    qat = branch_of(trunk, quantization("paretoq", 2))
    assert equal(train(qat, ends[0], recorded), train(qat, ends[0], launched))


@on_gpu
@pytest.mark.parametrize(
    "activation",
    [None, *(Activation(quantizer=name, bits=8, granularity="tensor") for name in ("rtn", "min-max", "lsq")),
     *(Activation(quantizer=name, bits=8, granularity="token") for name in ("rtn", "quest"))],
    ids=lambda a: f"{a.quantizer}-{a.granularity}" if a else "weights",
)  # fmt: skip
@pytest.mark.parametrize("entry", registry.ENTRIES, ids=lambda entry: entry.name)
def test_every_quantizer_is_recorded(
    runtimes: tuple[Runtime, Runtime], entry: registry.QuantizerEntry, activation: Activation | None
) -> None:
    trunk = trunk_of(runtimes[0], end=WARM_UP_STEPS + 2)
    begin = train(trunk, start_state(trunk), runtimes[0])
    qat = branch_of(trunk, quantization(entry.name, activation=activation), end=trunk.end + 12)
    assert equal(*(train(qat, begin, runtime) for runtime in runtimes))


@on_gpu
@pytest.mark.skipif(not can_compile("cuda"), reason="needs triton")
@pytest.mark.parametrize("name", ["quest", "beta-gamma"])
def test_compiled_steps_with_quantized_activations_are_recorded(runtimes: tuple[Runtime, Runtime], name: str) -> None:
    trunk = trunk_of(runtimes[0], backend="compiled", end=WARM_UP_STEPS + 2)
    begin = train(trunk, start_state(trunk), runtimes[0])
    activation = Activation(quantizer=name, bits=8, granularity="token")
    qat = branch_of(trunk, quantization(name, activation=activation), end=trunk.end + 12)
    assert equal(*(train(qat, begin, runtime) for runtime in runtimes))


@on_gpu
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_a_recorded_stack_trains_each_branch_as_if_it_were_alone(
    runtimes: tuple[Runtime, Runtime], backend: str
) -> None:
    recorded, launched = runtimes
    trunk = trunk_of(recorded, backend=backend)
    begin = train(trunk, start_state(trunk), recorded)
    configs = [branch_of(trunk, quantization("paretoq", bits), end=end) for bits, end in ((2, 60), (4, 60), (2, 45))]
    configs.append(replace(branch_of(trunk, quantization("lsq", 3)), seed=2))
    for number, end in train_stack(configs, [begin] * len(configs), recorded):
        alone = train(configs[number], begin, launched)
        assert [t for t, _ in end.curve] == [t for t, _ in alone.curve]
        torch.testing.assert_close(torch.tensor(end.curve), torch.tensor(alone.curve), rtol=1e-3, atol=1e-3)


@on_gpu
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_a_saved_state_goes_on_bit_for_bit(runtimes: tuple[Runtime, Runtime], backend: str) -> None:
    recorded, _ = runtimes
    trunk = trunk_of(recorded, backend=backend, end=60)
    saved: list[State] = []
    whole = train(trunk, start_state(trunk), recorded, save=saved.append, save_seconds=0.0)
    assert [state.step for state in saved] == [25, 50]
    on_host: dict[str, dict[str, Tensor]] = {k: {n: t.cpu() for n, t in m.items()} for k, m in saved[0].moments.items()}
    assert equal(train(trunk, replace(saved[0], moments=on_host), recorded), whole)


@on_gpu
@pytest.mark.parametrize("how", [{"optimizer": "sgd"}, {"optimizer": "muon"},
                                 {"update": "transition-rate", "transition_rate": 0.01}])  # fmt: skip
def test_what_the_host_decides_is_launched(runtimes: tuple[Runtime, Runtime], how: dict[str, object]) -> None:
    trunk = trunk_of(runtimes[0])
    begin = train(trunk, start_state(trunk), runtimes[0])
    qat = branch_of(trunk, quantization("paretoq", 2), **how)
    assert equal(*(train(qat, begin, runtime) for runtime in runtimes))
