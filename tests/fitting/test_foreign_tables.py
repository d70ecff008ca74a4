"""What a fit of somebody else's runs warns of: ends of tuning ranges, uneven tuning, small sizes of another law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

import qatplan as qp
from qatplan.fitting.tuning import TUNED, tried, tuning_flags
from qatplan.results import Fit

SIZES = (1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6)
BUDGETS = (2e7, 5e7, 1e8, 3e8)


def loss(n: float, d: float) -> float:
    return float(1.7 + 400 / n**0.34 + 2000 / d**0.36)


def fitted(rows: Sequence[Mapping[str, Any]], seed: int = 0, noise: float = 0.0003) -> Fit:
    rng = np.random.default_rng(seed)
    noisy = [{**row, "loss": row["loss"] * (1 + noise * rng.normal())} for row in rows]
    return qp.fit(pd.DataFrame(noisy), law="chinchilla", bootstrap=0)


def tuned(rates: Mapping[float, Sequence[float]], best: float) -> list[dict[str, Any]]:
    """Runs at each size with these learning rates, `best` of which is the best."""
    return [
        {"n_total": n, "d_total": d, "learning_rate": rate, "loss": loss(n, d) + 0.05 * np.log(rate / best) ** 2}
        for n, some in rates.items()
        for d in BUDGETS
        for rate in some
    ]


def flags_about(fit: Fit, what: str) -> list[str]:
    return [flag for flag in fit.fitted.flags if what in flag]


GRID = (0.001, 0.002, 0.004, 0.008)


def test_best_runs_at_an_end_of_what_was_tried_are_told() -> None:
    (flag,) = flags_about(fitted(tuned(dict.fromkeys(SIZES[:4], GRID), best=0.016)), "at an end")
    assert flag.startswith("16 of 16 points have their best run at an end of the learning_rate tried")
    assert not flags_about(fitted(tuned(dict.fromkeys(SIZES[:4], GRID), best=0.002)), "at an end")
    # Of two values one is always at an end.
    assert not flags_about(fitted(tuned(dict.fromkeys(SIZES[:4], GRID[:2]), best=0.001)), "at an end")


def test_a_size_tuned_less_is_named_with_the_rows_that_leave_it_out() -> None:
    rates = {n: GRID if n < 8e6 else (0.002,) for n in SIZES[:4]}
    rows = tuned(rates, best=0.002)
    (flag,) = flags_about(fitted(rows), "tuned less")
    assert "1 settings were tried a point at 8000000 parameters, 4 at others" in flag
    expression = flag.split('--rows "')[1].rstrip('"')
    rest = qp.fit(pd.DataFrame(rows), law="chinchilla", bootstrap=0, rows=expression)
    assert rest.fitted.rows == 12
    assert not flags_about(rest, "tuned less")
    assert not flags_about(fitted(tuned(dict.fromkeys(SIZES[:4], GRID), best=0.002)), "tuned less")


def test_only_settings_with_more_and_less_have_ends() -> None:
    def setting(rate: float, optimizer: str) -> tuple[Any, ...]:
        return tuple({"learning_rate": rate, "optimizer": optimizer}.get(name) for name in TUNED)

    settings = [setting(rate, name) for rate in (1.0, 2.0, 3.0) for name in ("adam", "muon", "sgd")]
    point = tried(1e6, setting(2.0, "adam"), settings)
    assert (point.settings, point.ranges, point.ends) == (9, ("learning_rate",), ())
    assert tried(1e6, setting(3.0, "adam"), settings).ends == ("learning_rate",)
    assert tuning_flags([], "n_total") == []


@pytest.mark.parametrize("seed", range(4))
def test_small_sizes_of_another_law_are_told_from_those_of_the_same(seed: int) -> None:
    points = [(n, d) for n in SIZES for d in BUDGETS]
    same = fitted([{"n_total": n, "d_total": d, "loss": loss(n, d)} for n, d in points], seed, noise=0.002)
    assert not flags_about(same, "bend")
    # Below 4M parameters the exponent is another one.
    bent = fitted(
        [{"n_total": n, "d_total": d, "loss": loss(n, d) + 0.6 * max(0.0, np.log(4e6 / n))} for n, d in points],
        seed,
        noise=0.002,
    )
    (flag,) = flags_about(bent, "small sizes bend the fit")
    assert '--rows "n_total >= 4000000" leaves them out' in flag
    found = bent.fitted.diagnostics
    assert found is not None
    errors = [o.error for o in found.rolling_origin if o.axis == "n"]  # type: ignore[union-attr]
    assert len(errors) == 4
    assert errors[0] > 2 * min(errors)


def test_details_show_the_errors_and_a_sweep_of_ours_has_none() -> None:
    made = fitted([{"n_total": n, "d_total": d, "loss": loss(n, d)} for n in SIZES for d in BUDGETS])
    titles = [section.title for section in made.sections(details=True)]
    assert "The largest predicted without the smallest" in titles
    assert "The largest predicted without the smallest" not in [s.title for s in made.sections()]
    ours = qp.fit("data/main/runs.parquet", law="chinchilla", bootstrap=0)
    assert ours.fitted.diagnostics.rolling_origin is None  # type: ignore[union-attr]
