"""One segment at a time, in this process: what is damaged is set aside and named, and what is missing is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.segments import end_of

from qatplan import runs
from qatplan.errors import DataError
from qatplan.storage.base import Entry
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Graph, Machine, Segment, build
from qatplan.sweeping.specification import parse
from qatplan.sweeping.tokens import prepare_tokens
from qatplan.training.corpus.corpus import Source, open_corpus
from qatplan.training.runtime import Runtime


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(f"{n} green bottles, {n * n % 101} on the wall." for n in range(2000)))
    return Source(path=str(path))


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


class Bench:
    """A small sweep whose segments are executed by hand."""

    def __init__(self, folder: SweepFolder, source: Source) -> None:
        self.folder = folder
        info = prepare_tokens(source, folder)
        training = {"sequence": 32, "sequences": 4, "validation_tokens": "2K", "backend": "eager"}
        grid = {"widths": 16, "tokens": 128 * 60, "bits": 4, "fractions": 0.5}
        content = {"corpus": {"path": source.path}, "training": training, "grid": [grid]}
        self.graph: Graph = build(parse(content, Path()), info, Machine(device="cpu", can_compile=False))
        self.runtime = Runtime(open_corpus(folder.storage.path / "corpus"), "cpu")

    def execute(self, segment: Segment, save_seconds: float = 60.0) -> Event:
        save_end = bool(self.graph.children()[segment.id])
        return end_of(segment, self.folder, self.runtime, save_end=save_end, save_seconds=save_seconds)


@pytest.fixture
def bench(folder: SweepFolder, source: Source) -> Bench:
    return Bench(folder, source)


def flip(entry: Entry) -> None:
    data = bytearray(entry.read())
    data[len(data) // 3] ^= 2
    entry.write(bytes(data))


def loss(bench: Bench, segment: Segment) -> float:
    return runs.load(str(bench.folder.row(segment.id))).column("loss").to_pylist()[0]


def test_a_damaged_parent_is_set_aside_and_asked_for(bench: Bench) -> None:
    trunk = next(iter(bench.graph.segments.values()))
    child = next(s for s in bench.graph.segments.values() if s.parent == trunk.id and s.config.kind == "cooldown")
    end = bench.execute(child)
    assert (end.kind, f"{trunk.id}.pt is missing" in end.message) == ("blocked", True)
    assert bench.execute(trunk) == Event(kind="done", segment=trunk)
    flip(bench.folder.checkpoint(trunk.id))
    end = bench.execute(child)
    assert end.kind == "blocked"
    assert re.search(rf"{trunk.id}\.pt is damaged: .* it is now {trunk.id}\.pt\.damaged", end.message)
    assert bench.folder.checkpoints() == set()
    bench.execute(trunk)
    assert bench.execute(child) == Event(kind="done", segment=child)


def test_a_damaged_or_foreign_middle_costs_only_time(bench: Bench) -> None:
    segments = list(bench.graph.segments.values())
    for segment in segments:
        assert bench.execute(segment).kind == "done"
    run = next(s for s in segments if s.config.kind == "qat")
    undisturbed = loss(bench, run)
    parent = bench.folder.checkpoint(str(run.parent))
    for spoil in ("foreign", "truncated"):
        partial = bench.folder.partial(run.id)
        partial.write(parent.read() if spoil == "foreign" else parent.read()[:1000])
        bench.folder.row(run.id).remove()
        (remark,) = bench.execute(run).remarks
        assert ("another segment's" if spoil == "foreign" else "damaged") in remark
        assert loss(bench, run) == undisturbed
        assert not partial.exists()


def test_tokens_are_made_again_where_damaged_and_refused_where_changed(folder: SweepFolder, source: Source) -> None:
    info = prepare_tokens(source, folder)
    tokens = folder.storage.path / "corpus" / "train.bin"
    sound = tokens.read_bytes()
    tokens.write_bytes(sound[:-5] + b"wrong")
    assert prepare_tokens(source, folder) == info
    assert tokens.read_bytes() == sound
    tokens.unlink()
    assert prepare_tokens(source, folder) == info
    content = {"corpus": {"path": source.path}, "grid": [{"widths": 16, "tokens": "1M"}]}
    folder.claim(parse(content, Path()), {}, info.digest)
    assert prepare_tokens(source, folder) == info
    Path(str(source.path)).write_text("another text\n\n" * 500)
    assert prepare_tokens(source, folder) == info, "what was prepared serves on"
    tokens.unlink()
    with pytest.raises(DataError, match=r"corpus text\.txt is not the text it was when the sweep in .* began"):
        prepare_tokens(source, folder)
