"""The graph: no token twice, runs where the specification puts them, names that do not depend on the company."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.graphs import CORPUS, GRID, MACHINE, graph

from qatplan import runs
from qatplan.errors import UsageError
from qatplan.quant import registry
from qatplan.sweeping.folder import SweepFolder
from qatplan.sweeping.graph import Machine, build
from qatplan.sweeping.specification import parse, read
from qatplan.training.shape import shape_of_width

DATA = Path(__file__).parents[2] / "data"


def test_runs_are_those_of_the_specification() -> None:
    found: dict[str, int] = {}
    for run in graph(GRID).runs:
        found[run.schedule] = found.get(run.schedule, 0) + 1
    # 8 models; per model: one control; per bit width one rounding, two classic and one from scratch, two fused.
    assert found == {"full-precision": 8, "post-training": 16, "classic": 48, "fused": 32}


def test_parents_come_first_and_every_phase_starts_where_its_parent_ends() -> None:
    segments = graph(GRID).segments
    seen: set[str] = set()
    for segment in segments.values():
        if segment.parent is not None:
            assert segment.parent in seen
            parent = segments[segment.parent]
            assert parent.config.end == segment.config.start
            assert parent.config.shape == segment.config.shape
            assert parent.config.seed == segment.config.seed
        else:
            assert segment.config.start == 0
        seen.add(segment.id)
        if segment.config.kind == "qat" and segment.config.start > 0:
            kind = segments[str(segment.parent)].config.kind
            assert kind == ("cooldown" if segment.schedule == "classic" else "trunk")


def test_targets_multiply_transition_rates_alone() -> None:
    grid = {
        "widths": 16, "tokens": "1M", "bits": 2, "fractions": 0.4, "full_precision": False,
        "optimizers": ["adamw", "sgd"], "updates": ["learning-rate", "transition-rate"],
        "transition_rates": [5e-3, 1e-2],
    }  # fmt: skip
    switches = [run.config.switch for run in graph(grid).runs]
    found = sorted((s.optimizer, s.update, s.transition_rate or 0) for s in switches if s is not None)
    assert found == [
        (optimizer, *update)
        for optimizer in ("adamw", "sgd")
        for update in (("learning-rate", 0), ("transition-rate", 5e-3), ("transition-rate", 1e-2))
    ]


def test_a_quantizer_that_computes_other_digits_renames_its_runs_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = {"corpus": {"name": "sotu"}, "grid": [GRID | {"quantizers": ["lsq", "rtn"]}]}
    specification = parse(content, tmp_path)
    folder = SweepFolder(tmp_path / "out")
    folder.claim(specification, {}, "d")
    folder.belongs_to(specification)
    before = {run.id: run.config.quantization for run in build(specification, CORPUS, MACHINE).runs}
    entries = tuple(replace(e, numerics=e.numerics + 1) if e.name == "rtn" else e for e in registry.ENTRIES)
    monkeypatch.setattr(registry, "ENTRIES", entries)
    after = {run.id for run in build(specification, CORPUS, MACHINE).runs}
    renamed = {name for name, q in before.items() if q is not None and q.quantizer == "rtn"}
    assert before.keys() - after == renamed
    assert len(after) == len(before)
    with pytest.raises(UsageError, match=r"numerics 1, this is 1, rtn 2\); name a new folder"):
        folder.belongs_to(specification)


def test_no_token_is_trained_twice() -> None:
    trunk_tokens: dict[str, int] = {}
    for segment in graph(GRID).segments.values():
        if segment.config.kind == "trunk":
            name = segment.config.trunk_digest()
            trunk_tokens[name] = trunk_tokens.get(name, 0) + segment.config.tokens
    for name, tokens in trunk_tokens.items():
        ends = [
            s.config.end_tokens
            for s in graph(GRID).segments.values()
            if s.config.kind == "trunk" and s.config.trunk_digest() == name
        ]
        assert tokens == max(ends), "pieces tile the trunk without overlap"
    assert len(trunk_tokens) == 4


def test_tokens_add_up_by_hand() -> None:
    # 100 steps of 2048 tokens, f = 0.4: trunk 48 to the cooldown of D_fp = 60, 32 more to that of the control.
    found = graph({"widths": 16, "tokens": 100 * 2048, "bits": 4, "fractions": 0.4})
    by_kind = {
        kind: sum(s.config.end - s.config.start for s in found.segments.values() if s.config.kind == kind)
        for kind in ("trunk", "cooldown", "qat")
    }
    assert by_kind == {"trunk": 80, "cooldown": 12 + 20, "qat": 40}
    assert found.tokens == 152 * 2048
    assert found.tokens_from_scratch == 200 * 2048


def test_a_run_keeps_its_name_in_other_company() -> None:
    alone = graph({"widths": 16, "tokens": "2M", "bits": 4, "fractions": 0.4}, training={"backend": "eager"})
    together = graph(GRID, training={"backend": "eager"})
    assert {run.id for run in alone.runs} <= {run.id for run in together.runs}


def test_overlapping_grids_share_their_runs() -> None:
    once, twice = graph(GRID), graph(GRID, {**GRID, "seeds": [0]})
    assert once.segments.keys() == twice.segments.keys()
    assert once.sweep_id == twice.sweep_id


def test_tokens_per_parameter_and_embedding_floor() -> None:
    grid = {"widths": 24, "tokens_per_parameter": 50, "bits": [2, 6], "fractions": 0.5}
    found = [run for run in graph(grid).runs if run.config.quantization]
    expected = 50 * shape_of_width(24).n_total
    assert all(abs(run.config.end_tokens - expected) <= 1024 for run in found)
    bits = {
        run.config.quantization.bits: run.config.quantization.embedding_bits for run in found if run.config.quantization
    }
    assert bits == {2: 4, 6: 6}
    bare = graph({**grid, "embedding_bits_floor": 0}).runs
    assert {run.config.quantization.embedding_bits for run in bare if run.config.quantization} == {2, 6}


def test_shipped_runs_keep_their_names_and_what_is_said_of_them() -> None:
    """The graph of data/main is its table: a run that lost its name would be trained again by every resumed sweep."""
    table = runs.read(DATA / "main" / "runs.parquet")
    rows = table.select(["run_id", "parent_id", "schedule", "cooldown", "d_qat", "bits"]).to_pylist()
    corpus = replace(CORPUS, digest=table.column("corpus_digest")[0].as_py())
    found = build(read(DATA / "main" / "sweep.toml"), corpus, MACHINE).runs
    described = {}
    for run in found:
        d_qat = run.config.tokens if run.config.kind == "qat" else 0
        described[run.id] = (run.parent, run.schedule, run.cooldown, d_qat, run.config.bits)
    assert len(described) == len(rows) == 549
    assert described == {run_id: tuple(rest) for run_id, *rest in (row.values() for row in rows)}


def test_sixteen_bits_are_a_second_phase_without_quantization() -> None:
    grid = {
        "widths": 16, "tokens": "1M", "bits": [4, 16], "fractions": [0, 0.1, 1], "schedules": ["classic", "fused"],
        "quantizers": ["paretoq", "lsq"], "scale_learning_rates": [0.5, 1], "qat_learning_rates": {"16": [0.1, 0.2]},
        "full_precision": False, "embedding_bits_floor": 0,
    }  # fmt: skip
    found = [run for run in graph(grid).runs if run.config.bits != 4]
    assert all(run.config.quantization is None for run in found)
    # Fraction 0 of it is the full-precision model itself; nothing is multiplied by quantizers and their scales.
    assert sorted((run.schedule, run.config.bits or 0) for run in found) == [
        *[("classic", 16)] * 4, ("full-precision", 0), *[("fused", 16)] * 2,
    ]  # fmt: skip
    four = {(run.config.start, run.schedule): run for run in graph(grid).runs if run.config.bits == 4}
    for run in found:
        if run.schedule == "classic" and run.config.start > 0:
            assert run.parent == four[run.config.start, "classic"].parent, "the same first phase"


def test_cooldowns_are_those_of_the_first_phase_and_of_the_control() -> None:
    grid = {"widths": 16, "tokens": 100 * 2048, "bits": 4, "fractions": [0, 0.5, 1], "schedules": ["classic", "fused"]}
    found = graph({**grid, "cooldowns": [0.1, 0.2, 0.5]})
    default = {run.id for run in graph(grid).runs}
    assert default < {run.id for run in found.runs}
    said = sorted((run.schedule, run.cooldown, run.config.start) for run in found.runs)
    assert said == [
        ("classic", 0.1, 50), ("classic", 0.2, 0), ("classic", 0.2, 50), ("classic", 0.5, 50),
        ("full-precision", 0.1, 90), ("full-precision", 0.2, 80), ("full-precision", 0.5, 50),
        ("fused", 0.2, 50),
        ("post-training", 0.1, 100), ("post-training", 0.2, 100), ("post-training", 0.5, 100),
    ]  # fmt: skip
    segments = found.segments
    for run in found.runs:
        if run.schedule == "classic" and run.config.start > 0:
            assert segments[str(run.parent)].config.start == 50 - round(run.cooldown * 50)
    late = graph({**grid, "fractions": 0.5, "schedules": "fused-late", "cooldowns": [0.1, 0.5]}).runs
    starts = {(run.cooldown, run.qat_decay): run.config.switch.decay_start for run in late if run.config.switch}
    assert starts == {(0.1, 0.2): 90, (0.5, 1.0): 50}


def test_the_decay_of_the_second_phase_is_its_last_share() -> None:
    grid = {"widths": 16, "tokens": 100 * 2048, "bits": [4, 16], "fractions": 0.4, "schedules": ["classic", "fused"]}
    found = [run for run in graph({**grid, "qat_decays": [1, 0.25]}).runs if run.config.switch]
    starts = sorted((run.schedule, run.config.bits, run.qat_decay, run.config.switch.decay_start) for run in found)  # type: ignore[union-attr]
    assert starts == [
        (schedule, bits, decay, start)
        for schedule in ("classic", "fused")
        for bits in (4, 16)
        for decay, start in ((0.25, 90), (1, 60))
    ]
    plain = {run.id: run.qat_decay for run in graph(grid).runs if run.config.switch}
    assert plain == {run.id: 1.0 for run in found if run.qat_decay == 1}


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({"widths": 16, "tokens": 1000}, "less than ten steps"),
        (
            {"widths": 16, "tokens": "100K", "bits": 4, "fractions": 0.001},
            "fractions 0.001 of 100000 tokens leaves less",
        ),
        ({"widths": 16, "tokens": "100K", "bits": 4, "fractions": 0.999}, "less than one step"),
        (
            {"widths": 16, "tokens": "100K", "bits": 4, "fractions": 0.1, "schedules": "fused-late"},
            r"below the cooldown 0\.2",
        ),
        (
            {"widths": 16, "tokens": "100K", "bits": 4, "fractions": 0.5, "group_sizes": 7},
            "group_sizes 7 does not divide",
        ),
    ],
)
def test_what_cannot_be_realised_is_refused(grid: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        graph(grid)


def test_backends_are_settled_by_what_repays() -> None:
    small = graph({"widths": 16, "tokens": "1M"})
    large = graph({"widths": 16, "tokens": "20M"})
    assert {s.config.backend for s in small.segments.values()} == {"eager"}
    assert {s.config.backend for s in large.segments.values()} == {"compiled"}
    content = {
        "corpus": {"name": "sotu"},
        "training": {"backend": "compiled"},
        "grid": [{"widths": 16, "tokens": "1M"}],
    }
    with pytest.raises(UsageError, match="compiled needs a C"):
        build(parse(content, Path()), CORPUS, Machine(device="cpu", can_compile=False))
    begun = build(
        parse({**content, "training": {}}, Path()), CORPUS, Machine(device="cpu", can_compile=False), {16: "compiled"}
    )
    assert {s.config.backend for s in begun.segments.values()} == {"compiled"}


def test_on_a_gpu_compiling_is_repaid_later() -> None:
    content = {"corpus": {"name": "sotu"}, "training": {}, "grid": [{"widths": 64, "tokens": "20M"}]}
    few = build(parse(content, Path()), CORPUS, Machine(device="cuda", can_compile=True))
    assert {s.config.backend for s in few.segments.values()} == {"eager"}
    content["grid"] = [{"widths": 64, "tokens": "2B"}]
    many = build(parse(content, Path()), CORPUS, Machine(device="cuda", can_compile=True))
    assert {s.config.backend for s in many.segments.values()} == {"compiled"}


def test_planning_needs_no_torch() -> None:
    code = "import sys, qatplan.sweeping.graph, qatplan.sweeping.specification; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
