"""The API: its surface is pinned, it loads lightly, takes what people have, and answers in plain words."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import qatplan as qp
from qatplan import api, results
from qatplan.errors import DataError, QatplanError, UsageError

ROOT = Path(__file__).parents[1]
MAIN = ROOT / "data" / "main" / "runs.parquet"
FIT = ROOT / "fits" / "qat-loss.json"
FRACTION_FIT = ROOT / "fits" / "qat-fraction.json"

SURFACE = {
    "compare": "runs laws score holdout folds bootstrap rows n huber keep_tuning effects seed",
    "design": "fit budget gpu_hours runs target params tokens bits trunks device mfu level extrapolation_limit",
    "fit": "runs law rows bootstrap interval level holdout leave_one_size_out n huber fix restrict keep_tuning effects "
    "seed starts resample workers command",
    "import_runs": "source mapping constants diverged keep_suspect limit propose",
    "law": "source formula parameters name title reference",
    "load": "path",
    "memory": "model format context batch kv_format params layers width heads kv_heads head_size feed_forward "
    "vocabulary tied experts experts_active",
    "plot": "kind subject runs rows params tokens bits layout relative training",
    "predict": "fit params tokens bits fraction level extrapolation_limit",
    "read": "source more rows",
    "recommend": "fit law memory params model tokens flops gpu_hours bits fraction target_loss fp_tokens context batch "
    "kv_format group_size embedding_bits vocabulary sequence device dtype mfu qat_slowdown split tolerance runs "
    "price_per_hour level extrapolation_limit",
    "report": "fit runs out params tokens flops memory bits context vocabulary sequence split force",
    "sweep": "specification out dry_run engine address gpu_share workers stacked device console json_lines tensorboard",
}
POSITIONAL = {
    "compare": 1, "design": 1, "fit": 1, "import_runs": 3, "law": 1, "load": 1, "memory": 1, "plot": 3, "predict": 1,
    "read": 2, "recommend": 1, "report": 2, "sweep": 1,
}  # fmt: skip


def test_the_surface_is_pinned() -> None:
    assert set(qp.__all__) == set(SURFACE)
    for name, parameters in SURFACE.items():
        signature = inspect.signature(getattr(qp, name))
        assert list(signature.parameters) == parameters.split(), name
        positional = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        assert len(positional) == POSITIONAL[name], name
        assert signature.return_annotation is not inspect.Signature.empty
        assert inspect.getdoc(getattr(qp, name)), f"{name} says nothing about itself"
    assert set(qp.__all__) <= set(dir(qp))
    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        _ = qp.recomend


def test_importing_the_api_loads_nothing_heavy() -> None:
    code = "import sys, qatplan; qatplan.recommend, qatplan.fit; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "scipy", "pandas", "matplotlib", "pyarrow", "numpy", "rich", "typer"} & set(loaded)


def test_runs_come_from_whatever_people_have(tmp_path: Path) -> None:
    found = qp.read(MAIN)
    assert len(found) == found.table.num_rows > 400
    few = found.select("bits == 4 and seed == 0")
    assert len(few) == len(qp.read(MAIN, rows="bits == 4 and seed == 0")) > 0
    for same in (few.table, few.to_frame(), few.to_frame()[["n_total", "d_total", "d_qat", "bits", "loss", "run_id"]]):
        assert len(qp.read(same)) == len(few)
    few.save(tmp_path / "few.parquet")
    assert qp.read([tmp_path / "few.parquet"]).digest == few.digest == qp.read(few).digest
    assert qp.read(tmp_path).digest == few.digest


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        (lambda: qp.read(3), UsageError, "runs are a number; allowed are paths"),
        (lambda: qp.read(pd.DataFrame({"n_total": [1], "d_totl": [2]})), DataError, "column 'd_totl' that is no field"),
        (lambda: qp.read(pd.DataFrame({"n_total": [1000], "loss": [2.0]})), DataError, "Row 1: d_"),
        (lambda: qp.read(pa.table({"n_total": ["many"]})), DataError, "n_total is 'many'"),
        (lambda: qp.recommend(params=1e9, tokens=1e10), UsageError, "give a fit"),
        (lambda: qp.recommend(law="chen2025", params=1e9, tokens=1e10), UsageError, "needs a fit"),
        (lambda: qp.recommend(FIT, law="chinchilla", params=1e5, tokens=1e6), UsageError, "holds law qat-loss"),
        (lambda: qp.recommend(FIT, params="100Q", tokens="4M"), UsageError, "params: '100Q' is not a count"),
        (lambda: qp.recommend(FIT, memory="4 parrots", tokens="4M"), UsageError, "memory: '4 parrots'"),
        (lambda: qp.predict(FIT, params=-1, tokens=1e6), UsageError, "params"),
        (lambda: qp.compare(MAIN, score="splits"), UsageError, "score is 'splits'; allowed are loss and split"),
        (lambda: qp.compare(MAIN, score="split", holdout="largest-d"), UsageError, "holdout has no meaning for score"),
        (lambda: qp.compare(MAIN, folds=3), UsageError, "folds has no meaning for score loss"),
        (lambda: qp.compare(MAIN, bootstrap=99), UsageError, "bootstrap has no meaning for score loss"),
        (lambda: qp.compare(MAIN, score="split", rows="bits is null"), DataError, "of 0 curves the longest has 0"),
        (lambda: qp.design(FIT), UsageError, "budget either in FLOPs"),
        (lambda: qp.memory("qwen3-8b", params="8B"), UsageError, "a model or its numbers, not both"),
        (lambda: qp.load("nowhere.json"), DataError, "nowhere.json"),
        (lambda: qp.sweep("nowhere.toml", out="x"), UsageError, "nowhere.toml cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(wrong, kind: type[QatplanError], sentence: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind) as caught:
        wrong()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_units_are_numbers_too() -> None:
    text = qp.recommend(FIT, params="100K", tokens="4M", vocabulary=256, context=128, bits=4)
    number = qp.recommend(qp.load(FIT), params=1e5, tokens=4_000_000, vocabulary="256", context=128, bits=[4.0])
    assert text.as_dict() == number.as_dict()
    assert qp.recommend(FIT, memory="64KiB", tokens="4M", vocabulary=256, context=16).as_dict() == (
        qp.recommend(FIT, memory=65536, tokens=4e6, vocabulary=256, context=16).as_dict()
    )


def test_every_result_shows_itself(tmp_path: Path) -> None:
    found = qp.read(MAIN, rows="bits is null or (schedule == 'classic' and bits > 1 and fraction >= 0.02)")
    fit = qp.fit(found, law="chinchilla-per-bits", bootstrap=50)
    fit.save(tmp_path / "fit.json")
    assert qp.load(tmp_path / "fit.json").as_dict() == fit.as_dict()
    shown: list[results.Result] = [
        found,
        fit,
        qp.load(FRACTION_FIT),
        qp.compare(found, laws=("effective", "chinchilla-per-bits")),
        qp.compare(MAIN, score="split", laws="qat-fraction"),
        qp.predict(FIT, params="100K", tokens="4M", bits=4),
        qp.recommend(FIT, params="100K", tokens="4M", vocabulary=256, context=128),
        qp.recommend(law="qat-fraction", params="1.5B", tokens="300B"),
        qp.design(FIT, budget="1e14", params="250K", tokens="8M", bits=4),
        qp.memory("qwen3-8b", format="Q4_K_M"),
    ]
    for result in shown:
        text, html = repr(result), result._repr_html_()
        assert 1 < len(text.splitlines()) <= 40, text
        assert max(map(len, text.splitlines())) <= 80, text
        assert html.startswith("<div"), html[:50]
        assert "<script" not in html
        assert result.as_dict()
        assert len(result.sections(details=True)) >= len(result.sections())
    assert len(repr(fit).splitlines()) <= 15


def test_a_comparison_of_splits_is_a_table_of_curves_too() -> None:
    compared = qp.compare(MAIN, score="split", laws=("qat-fraction",), folds=3)
    assert isinstance(compared, results.SplitComparison)
    frame, shown = compared.to_frame(), compared.as_dict()
    for scheme in (*shown["schemes"], shown["in_sample"]):
        for entry in scheme["entries"]:
            rows = frame[(frame["way"] == scheme["way"]) & (frame["name"] == entry["name"])]
            assert len(rows) == scheme["scored"] == entry["overall"]["curves"]
            assert rows["regret"].mean() == pytest.approx(entry["overall"]["mean_regret"])
            assert rows["regret"].min() >= 0
    assert compared.compared.schemes[0].folds == 3


def test_frames_have_a_row_an_alternative() -> None:
    plan = qp.recommend(FIT, params="100K", tokens="4M", vocabulary=256, context=128, bits=(2, 3, 4))
    frame = plan.to_frame()
    assert list(frame["bits"]) == [o["bits"] for o in (plan.as_dict()["choice"], *plan.as_dict()["alternatives"])]
    assert len(qp.design(FIT, budget="1e14", params="250K", tokens="8M", bits=4).to_frame()) > 0


def test_the_examples_of_docstrings_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    outcome = doctest.testmod(api, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted >= 10
    assert outcome.failed == 0
