"""No fit sees what it is asked about: cells stay whole, and an origin lies below all that it is scored on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from support.curves import curve_table

from qatplan.errors import DataError
from qatplan.fitting.split.folds import Axis, Fold, Places, by_cell, cells, rolling
from qatplan.fitting.split.regret import measured_curves


def losses(x):  # type: ignore[no-untyped-def]
    share = np.where(x.quantized, x.fraction, 0.1)
    return 2 + 1 / np.log(x.d_total) + 0.01 * np.log(share / 0.1) ** 2


TABLE = curve_table(losses, seeds=(0, 1, 2), noise=1e-3)
PLACES = Places.of(TABLE)
CURVES = [m.curve for m in measured_curves(TABLE)[1]]


def runs_of(table: pa.Table, fold: Fold) -> list[dict[str, float | None]]:
    found: list[dict[str, float | None]] = table.filter(pa.array(fold.fitted)).to_pylist()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_folds_never_share_a_cell(seed: int) -> None:
    folds = by_cell(PLACES, CURVES, folds=6, seed=seed)
    assert sorted(i for f in folds for i in f.scored) == list(range(81))
    for fold in folds:
        asked = {(CURVES[i].n, CURVES[i].bits, round(CURVES[i].d_total)) for i in fold.scored}
        seen = {(r["n_total"], r["bits"], r["d_total"]) for r in runs_of(TABLE, fold)}
        assert not asked & seen
        # Everything else is seen: the other cells, and every run in full precision.
        assert len(seen) == 27 + 9 - len(asked)
        assert len(fold.scored) == 3 * len(asked)
        assert 4 <= len(asked) <= 5
    assert [f.scored for f in folds] != [f.scored for f in by_cell(PLACES, CURVES, folds=6, seed=seed + 99)]
    assert [f.scored for f in folds] == [f.scored for f in by_cell(PLACES, CURVES, folds=6, seed=seed)]


def test_tokens_that_were_rounded_to_steps_are_one_cell() -> None:
    rows = TABLE.to_pylist()
    for i, row in enumerate(rows):
        row["d_total"] = round(row["d_total"] * (1 + 0.01 * (i % 2)))
        row["d_fp"] = row["d_total"] - row["d_qat"]
    table = pa.Table.from_pylist(rows, schema=TABLE.schema)
    found = [m.curve for m in measured_curves(table)[1]]
    assert len(set(cells(found))) == 27
    for fold in by_cell(Places.of(table), found, folds=5, seed=0):
        for i in fold.scored:
            c = found[i]
            near = [
                r for r in runs_of(table, fold)
                if (r["n_total"], r["bits"]) == (c.n, c.bits) and abs(float(r["d_total"] or 0) / c.d_total - 1) < 0.1
            ]  # fmt: skip
            assert not near


@pytest.mark.parametrize("axis", ["tokens", "size"])
def test_an_origin_never_sees_more_than_it_scores(axis: Axis) -> None:
    column = {"tokens": "d_total", "size": "n_total"}[axis]
    found = rolling(PLACES, CURVES, axis)
    assert len(found) == {"tokens": len({round(c.d_total) for c in CURVES}) - 2, "size": 1}[axis]
    for fold in found:
        largest = max(float(r[column] or 0) for r in runs_of(TABLE, fold))
        of = np.array([CURVES[i].d_total if axis == "tokens" else CURVES[i].n for i in fold.scored])
        assert largest < of.min()
        assert fold.distance == pytest.approx(of / largest)
        # Every curve beyond the origin is scored, and every run below is seen.
        assert len(of) == sum((c.d_total if axis == "tokens" else c.n) > largest for c in CURVES)
        assert fold.fitted.sum() == sum(float(v) <= largest for v in TABLE[column].to_pylist())


def test_too_little_for_a_scheme_is_one_sentence() -> None:
    one = [c for c in CURVES if c.bits == 2 and c.n == 1e5 and c.d_total == 2e6]
    with pytest.raises(DataError, match="all curves are of one size, budget and bit width"):
        by_cell(PLACES, one, folds=6, seed=0)
    with pytest.raises(DataError, match="the 3 curves are of 1 budget; a rolling origin needs 10 curves of 2 budgets"):
        rolling(PLACES, one, "tokens")
    two = [c for c in CURVES if c.n < 1e6]
    with pytest.raises(DataError, match=r"the 54 curves are of 2 sizes; .* and one of a larger"):
        rolling(PLACES, two, "size")


def test_many_budgets_take_eight_origins() -> None:
    many = curve_table(losses, sizes=(1e5,), ratios=tuple(20 * 1.3**k for k in range(14)))
    found = [m.curve for m in measured_curves(many)[1]]
    origins = rolling(Places.of(many), found, "tokens")
    assert len(origins) == 8
    sizes = [int(f.fitted.sum()) for f in origins]
    assert sizes == sorted(set(sizes))
