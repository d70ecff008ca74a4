"""Designs of next runs: what sets of runs cost, what they are expected to buy, and that little buys more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qatplan.cli.app import main
from qatplan.errors import UsageError
from qatplan.laws import FittedLaw, Inputs, Status, optimal_fraction
from qatplan.planning.intervals import draws_of
from qatplan.planning.next_runs.candidates import CandidateRuns, candidates
from qatplan.planning.next_runs.design import design
from qatplan.planning.next_runs.knowledge import Knowledge, _directions, knowledge
from qatplan.planning.next_runs.selection import select

Build = Callable[..., FittedLaw]
RANGES = {"n": (1e7, 8e7), "d_total": (1e9, 8e9), "bits": (2.0, 4.0)}


def runs_of(*points: tuple[float, float, float, float], trunks: dict[float, float] | None = None) -> CandidateRuns:
    n, tokens, bits, fraction = np.array(points).T
    return CandidateRuns(x=Inputs.of(n=n, d_total=tokens, bits=bits, fraction=fraction), trunks=trunks or {})


def test_runs_of_one_size_share_their_trunk() -> None:
    runs = runs_of((1e6, 100.0, 2, 0.5), (1e6, 200.0, 4, 0.5), (1e6, 100.0, 4, 0.5), (2e6, 100.0, 4, 0.5))
    # Alone: trunk 40 + cooldown 10 + QAT 50; the other size pays twice as much per token.
    assert runs.extra_flops(()) == pytest.approx([6e6 * 100, 6e6 * 200, 6e6 * 100, 12e6 * 100])
    # After the first: its trunk reaches 40 of the second's 80; the third shares trunk and cooldown.
    assert runs.extra_flops([0]) == pytest.approx([6e6 * 50, 6e6 * 160, 6e6 * 50, 12e6 * 100])
    assert runs.flops([0, 1, 2, 3]) == pytest.approx(6e6 * (100 + 160 + 50) + 12e6 * 100)
    assert runs.flops([1, 0, 2]) == pytest.approx(runs.flops([0, 1, 2]))


def test_a_kept_trunk_is_not_paid_again() -> None:
    point = (1e6, 100.0, 2, 0.5)
    assert runs_of(point, trunks={1e6: 1000.0}).extra_flops(()) == pytest.approx([6e6 * 60])
    assert runs_of(point, trunks={1e6: 30.0}).extra_flops(()) == pytest.approx([6e6 * 70])


@pytest.fixture
def random_knowledge() -> Knowledge:
    rng = np.random.default_rng(4)
    targets, runs = rng.standard_normal((6, 2)), rng.standard_normal((6, 12)) * 0.3
    weights = 0.5 / np.sum(targets**2, axis=0)
    return Knowledge(targets=targets, weights=weights, targets_factor=targets, runs_factor=runs, noise=0.2)


def test_variance_left_is_that_of_gaussian_conditioning(random_knowledge: Knowledge) -> None:
    known = random_knowledge
    t, a = known.targets_factor, known.runs_factor[:, [3, 7, 1]]
    left = t.T @ t - t.T @ a @ np.linalg.solve(a.T @ a + known.noise**2 * np.eye(3), a.T @ t)
    assert known.left([3, 7, 1]) == pytest.approx(float(known.weights @ np.diag(left)))
    assert known.left_each([3, 7, 1]) == pytest.approx(np.diag(left) / np.sum(t**2, axis=0))
    assert known.left([3, 7]) - known.gains([3, 7])[1] == pytest.approx(known.left([3, 7, 1]))
    assert known.left([]) == pytest.approx(1.0)


def test_selection_is_nearly_the_best_of_all_sets(random_knowledge: Knowledge) -> None:
    rng = np.random.default_rng(8)
    points = [(float(rng.choice([1e6, 2e6])), float(rng.uniform(50, 200)), 4.0, 0.5) for _ in range(12)]
    runs = runs_of(*points)
    budget = 2.5 * float(runs.extra_flops(()).mean())
    chosen = select(random_knowledge, runs, budget=budget, runs=4)
    assert runs.flops(chosen) <= budget
    every = [s for k in range(1, 5) for s in itertools.combinations(range(12), k) if runs.flops(s) <= budget]
    best = min(random_knowledge.left(s) for s in every)
    typical = float(np.median([random_knowledge.left(s) for s in every]))
    assert random_knowledge.left(chosen) <= best + 0.05 * (typical - best)


def test_design_halves_what_random_runs_leave_open(fitted: Build) -> None:
    fit = fitted(scatter=0.01, ranges=RANGES, noise=1e-3)
    said = design(fit, budget=1e19, runs=10, params=1e9, tokens=1e11, bits=(2.0, 4.0))
    assert len(said.runs) <= 10
    assert said.flops <= 1e19
    assert said.flops == pytest.approx(sum(run.extra_flops for run in said.runs))
    assert [run.variance_left for run in said.runs] == sorted((r.variance_left for r in said.runs), reverse=True)
    assert said.runs[-1].variance_left == said.variance_left
    possible = candidates(fit, bits=(2.0, 4.0), budget=1e19)
    known, _ = knowledge(
        fit, draws_of(fit, 0.95), possible, target="fraction", params=1e9, tokens=1e11, bits=(2.0, 4.0)
    )
    rng, gained = np.random.default_rng(1), []
    for _ in range(20):
        chosen: list[int] = []
        for run in rng.permutation(len(possible))[:60]:
            if len(chosen) < 10 and possible.flops([*chosen, int(run)]) <= 1e19:
                chosen.append(int(run))
        gained.append(1.0 - known.left(chosen))
    assert 1.0 - said.variance_left > 2.0 * float(np.median(gained))


def test_expected_intervals_are_those_of_the_target(fitted: Build) -> None:
    fit = fitted(scatter=0.01, ranges=RANGES)
    said = design(fit, budget=1e19, runs=4, params=1e9, tokens=1e11, bits=(4.0,), level=0.9)
    best = optimal_fraction(fit.law, n=1e9, d_total=1e11, bits=4.0, draws=fit.draw_coordinates()).fraction[:, 0]
    (held,) = said.quantities
    assert held.interval == pytest.approx(tuple(np.quantile(best, [0.05, 0.95], method="weibull")))
    assert held.expected_width == pytest.approx(held.width * np.sqrt(said.variance_left))
    assert held.weight == pytest.approx(1.0)


def test_choice_of_bits_looks_at_the_open_pair(fitted: Build) -> None:
    fit = fitted(scatter=0.01, ranges=RANGES)
    said = design(fit, budget=1e19, runs=6, target="bits", params=1e9, tokens=1e11, bits=(2.0, 3.0, 4.0))
    assert len(said.quantities) == 2
    assert sum(q.weight for q in said.quantities) == pytest.approx(1.0)
    assert said.variance_left < 1.0


def test_what_cannot_be_designed_is_said(fitted: Build) -> None:
    fit = fitted(scatter=0.01, ranges=RANGES)
    with pytest.raises(UsageError, match="at least 20 draws"):
        design(fitted(ranges=RANGES), budget=1e19, bits=(4.0,))
    with pytest.raises(UsageError, match="pays for no run"):
        design(fit, budget=1e3, bits=(4.0,))
    with pytest.raises(UsageError, match="at least two widths"):
        design(fit, budget=1e19, target="bits", bits=(4.0,))
    with pytest.raises(UsageError, match="level is 2"):
        design(fit, budget=1e19, bits=(4.0,), level=2.0)
    with pytest.raises(UsageError, match="trunk parameters is 0"):
        design(fit, budget=1e19, bits=(4.0,), trunks={0.0: 1e9})
    with pytest.raises(UsageError, match="records no ranges"):
        design(fitted(scatter=0.01, ranges={}), budget=1e19, bits=(4.0,))


def test_a_doubtful_fit_is_said_to_be_one(fitted: Build) -> None:
    fit = fitted(scatter=0.01, ranges=RANGES, status=Status.UNDETERMINED)
    said = design(fit, budget=1e19, runs=2, params=1e9, tokens=1e11, bits=(4.0,))
    assert "the fit is doubtful" in said.assumptions[-1]


def test_command(fitted: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fit.json"
    fitted(scatter=0.01, ranges=RANGES).write(path)
    arguments = ["design", str(path), "--budget", "1e19", "--runs", "3", "--params", "1B", "--tokens", "100B"]
    assert main([*arguments, "--bits", "2,4", "--trunk", "80M:8B", "--json", "--extrapolation-limit", "1000"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0 < len(said["runs"]) <= 3
    assert {"params", "tokens", "bits", "fraction", "extra_flops", "variance_left"} <= said["runs"][0].keys()
    assert said["flops"] <= said["budget"] == 1e19
    assert main([*arguments, "--bits", "2,4", "--extrapolation-limit", "1000"]) == 0
    assert capsys.readouterr().out.startswith("Next runs\n")
    far = ["design", str(path), "--budget", "1e24", "--params", "1T", "--tokens", "100T", "--bits", "4"]
    assert main(far) == 4
    said = capsys.readouterr()
    assert "Not to be relied upon: too far outside" in said.out
    assert "the design is too far outside" in said.err
    assert main(["design", str(path)]) == 2
    assert "either in FLOPs" in capsys.readouterr().err


def test_a_parameter_held_at_zero_is_no_direction() -> None:
    draws = np.random.default_rng(0).normal(size=(50, 3))
    held = np.column_stack([draws, np.full(50, -np.inf)])
    with np.errstate(all="raise"):
        found = _directions(held)
    np.testing.assert_allclose(found, _directions(draws))
    assert found.shape == (50, 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": None}, "give the budget either in FLOPs"),
        ({"budget": 0.0}, "budget is 0"),
        ({"gpu_hours": 1.0}, "give the budget either in FLOPs"),
        ({"level": 1.0}, "level is 1"),
        ({"runs": 0}, "runs is 0"),
        ({"trunks": {1e6: 0.0}}, "trunk tokens is 0"),
        ({"target": "bits", "bits": (4.0,)}, "at least two widths"),
    ],
)
def test_what_no_design_can_be_made_for(fitted: Build, fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        design(fitted(scatter=0.01, ranges=RANGES), **{"budget": 1e19, "bits": (2.0, 4.0), **fields})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="scatter of single runs"):
        design(fitted(scatter=0.01, ranges=RANGES, noise=float("nan")), budget=1e19)


def test_hours_of_a_device_are_a_budget(fitted: Build) -> None:
    from qatplan.models.costs import Training

    fit, training = fitted(scatter=0.01, ranges=RANGES, noise=1e-3), Training(device="a100", mfu=0.5)
    made = design(fit, gpu_hours=1.0, training=training, runs=2)
    assert made.budget == pytest.approx(312e12 * 0.5 * 3600)
    assert {run.bits for run in made.runs} <= {None, 2.0, 3.0, 4.0}


def test_a_trunk_has_two_numbers(fitted: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = tmp_path / "fit.json"
    fitted(scatter=0.01, ranges=RANGES, noise=1e-3).write(fit)
    assert main(["design", str(fit), "--budget", "1e18", "--trunk", "30M"]) == 2
    assert "is not of the form PARAMS:TOKENS" in capsys.readouterr().err


def test_more_runs_than_there_are_end_the_choice(random_knowledge: Knowledge) -> None:
    runs = runs_of(*((1e6, 100.0 + i, 4.0, 0.5) for i in range(12)))
    assert sorted(select(random_knowledge, runs, budget=1e18, runs=50)) == list(range(12))
