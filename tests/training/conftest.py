"""A runtime on a small text, and a trunk of the smallest model on it."""

from __future__ import annotations

import pytest
import torch
from support.dense_curves import make_curve_dense

from qatplan.training.corpus.corpus import Source, open_corpus, prepare
from qatplan.training.runtime import Runtime
from qatplan.training.segment import SegmentConfig
from qatplan.training.shape import shape_of_width


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("corpus")
    text = "\n".join(f"The {n} bottles stood on wall number {n * 7 % 13}." for n in range(2500))
    (folder / "text.txt").write_text(text)
    prepare(Source(path=str(folder / "text.txt")), folder / "prepared")
    return Runtime(open_corpus(folder / "prepared"), "cpu")


@pytest.fixture(scope="module")
def trunk(runtime: Runtime) -> SegmentConfig:
    return SegmentConfig(
        kind="trunk", shape=shape_of_width(16), seed=1, corpus=runtime.corpus.info.digest, start=0, end=60,
        sequences=4, sequence=32, learning_rate=0.02, warmup_steps=5, weight_decay=0.1, backend="eager", device="cpu",
        validation_tokens=2048, evaluate=True,
    )  # fmt: skip


@pytest.fixture
def dense_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    make_curve_dense(monkeypatch)
