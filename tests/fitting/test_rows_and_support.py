"""Which rows are used and why not, what they support, and what is said about what they leave open."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.simulated import TRUE_CHINCHILLA, TRUE_QAT, chinchilla_points, observed, qat_points, table

from qatplan import runs
from qatplan.errors import DataError, UsageError
from qatplan.fitting.api import fit
from qatplan.fitting.options import FitOptions
from qatplan.fitting.provenance import ranges
from qatplan.fitting.rows import select
from qatplan.fitting.support import axis_of, rank_deficient
from qatplan.laws import Chinchilla, ChinchillaPerBits, Inputs, Ouyang, Precision, QatFraction, QatLoss, Status
from qatplan.laws.effective_tokens import EffectiveTokens
from qatplan.laws.fit_parts import LeftOut


def sweep_table(**replace: list[object]):  # type: ignore[no-untyped-def]
    """Twelve rows of our schema with every kind of run."""
    base = {"status": "finished", "n_total": 100_000, "n_nonembedding": 80_000, "seed": 0}
    rows = []
    for i, (bits, schedule, d_qat, rate, status) in enumerate(
        [
            (None, "full-precision", 0, None, "finished"),
            (4.0, "classic", 300, 0.3, "finished"),
            (4.0, "classic", 300, 1.0, "finished"),
            (4.0, "fused", 300, 0.3, "finished"),
            (4.0, "post-training", 0, None, "finished"),
            (4.0, "classic", 1000, 0.3, "finished"),
            (4.0, "classic", 500, 0.3, "diverged"),
            (2.0, None, 500, 0.3, "finished"),
        ]
    ):
        rows.append(
            {
                **base, "run_id": f"r{i}", "bits": bits, "schedule": schedule, "d_qat": d_qat, "d_fp": 1000 - d_qat,
                "d_total": 1000, "qat_learning_rate": rate, "status": status,
                "loss": None if status == "diverged" else 3.0 + 0.01 * i,
            }
        )  # fmt: skip
    return runs.table(rows)


def reasons(left_out: tuple[LeftOut, ...]) -> dict[str, int]:
    return {e.reason.split(";")[0].split(" (")[0]: e.rows for e in left_out}


def test_default_rows_of_qat_loss_and_why_the_others_are_left_out() -> None:
    chosen = select(sweep_table(), "qat-loss", shape=QatLoss)
    assert chosen.run_id == ["r0", "r1", "r7"]
    assert reasons(chosen.left_out) == {
        "the run diverged": 1,
        "schedule fused": 1,
        "schedule post-training": 1,
        "at the same point another learning rate or tuning did better": 1,
        "D_fp = 0": 1,
    }


def test_an_expression_chooses_schedules_itself() -> None:
    chosen = select(sweep_table(), "qat-loss", shape=QatLoss, expression="schedule == 'fused'")
    assert chosen.run_id == ["r3"]


def test_tuning_runs_are_kept_when_asked() -> None:
    assert "r2" in select(sweep_table(), "qat-loss", shape=QatLoss, keep_tuning=True).run_id


@pytest.mark.parametrize("setting", ["batch_tokens", "sequence", "layers", "optimizer"])
def test_the_best_of_any_setting_counts_and_the_rest_is_listed(setting: str) -> None:
    """Twelve points, each at two learning rates with two batches: one row a point is fitted."""
    rows = [
        {
            "run_id": f"{n}-{d}-{rate}-{other}", "status": "finished", "n_total": n, "d_total": d, "d_fp": d,
            "d_qat": 0, "learning_rate": rate, setting: f"o{other}" if setting == "optimizer" else other,
            "loss": 3.0 + 1e6 / n + 1e8 / d + rate + other / 1e4,
        }
        for n in (10**6, 2 * 10**6, 4 * 10**6)
        for d in (10**8, 2 * 10**8, 4 * 10**8, 8 * 10**8)
        for rate in (0.001, 0.002)
        for other in (16, 32)
    ]  # fmt: skip
    chosen = select(runs.table(rows), "chinchilla", shape=Chinchilla)
    assert len(chosen) == 12
    assert all(name.endswith("-0.001-16") for name in chosen.run_id)
    assert reasons(chosen.left_out) == {"at the same point another learning rate or tuning did better": 36}
    assert len(select(runs.table(rows), "chinchilla", shape=Chinchilla, keep_tuning=True)) == 48


def test_chinchilla_takes_full_precision_and_precision_takes_rounded_models() -> None:
    assert select(sweep_table(), "chinchilla", shape=Chinchilla).run_id == ["r0"]
    rounded = select(sweep_table(), "precision", shape=Precision, keep_tuning=True, fix={"phi": 0, "lam": 0})
    assert "r4" in rounded.run_id


def test_other_rounding_than_to_nearest_is_left_out_unless_asked_for() -> None:
    row = {"n_total": 1000, "d_total": 9000, "d_fp": 9000, "d_qat": 0, "bits": 4.0, "schedule": "post-training"}
    both = [
        {**row, "run_id": method or "none", "post_training": method, "seed": seed, "status": "finished", "loss": 3.0}
        for seed, method in enumerate((None, "rtn", "adaround"))
    ]
    zero = {"phi": 0.0, "lam": 0.0}
    chosen = select(runs.table(both), "precision", shape=Precision, fix=zero)
    assert chosen.run_id == ["none", "rtn"]
    assert chosen.left_out[0].reason.startswith("post-training method adaround; law precision is fitted on rtn")
    asked = select(runs.table(both), "precision", shape=Precision, fix=zero, expression="post_training == 'adaround'")
    assert asked.run_id == ["adaround"]
    assert asked.method[0][:3] == ("post-training", None, "adaround")


def test_precisions_are_not_mixed_unless_asked_for() -> None:
    row = {"n_total": 1000, "d_total": 9000, "d_fp": 9000, "d_qat": 0, "schedule": "full-precision", "loss": 3.0}
    mixed = [
        {**row, "run_id": name or "none", "precision": name, "status": "finished", "learning_rate": rate}
        for name, rate in ((None, 0.1), ("float32", 0.1), ("bfloat16", 0.2))
    ]
    chosen = select(runs.table(mixed), "chinchilla", shape=Chinchilla)
    assert chosen.run_id == ["none", "float32"]
    assert reasons(chosen.left_out) == {"trained in bfloat16": 1}
    asked = select(runs.table(mixed), "chinchilla", shape=Chinchilla, expression="d_qat == 0")
    assert asked.run_id == ["none", "float32", "bfloat16"], "one precision does not beat the other"
    alone = select(runs.table([mixed[2]]), "chinchilla", shape=Chinchilla)
    assert alone.run_id == ["bfloat16"], "there is nothing to mix it with"


def test_second_phases_in_full_precision_are_in_fits_of_laws_that_are_about_them() -> None:
    row = {"n_total": 1000, "d_total": 9000, "status": "finished", "loss": 3.0}
    qat = {**row, "d_fp": 5000, "d_qat": 4000, "schedule": "classic"}
    table = runs.table(
        [
            {**row, "run_id": "control", "d_fp": 9000, "d_qat": 0, "schedule": "full-precision"},
            {**qat, "run_id": "four", "bits": 4.0},
            {**qat, "run_id": "sixteen", "bits": 16.0, "loss": 2.0},
        ]
    )
    for expression in (None, "d_total > 0"):
        chosen = select(table, "qat-loss", shape=QatLoss, expression=expression)
        assert chosen.run_id == ["control", "four"]
        assert reasons(chosen.left_out) == {"16 bits: a second phase in full precision": 1}
    assert select(table, "chinchilla", shape=Chinchilla).run_id == ["control"]
    taken = select(table, "effective-tokens", shape=EffectiveTokens)
    assert taken.run_id == ["control", "four", "sixteen"]
    assert ranges(taken)["bits"] == (4.0, 4.0), "a control says nothing about plans of 16 bits"
    with pytest.raises(DataError, match=r"no row can be used to fit qat-loss .*16 bits"):
        select(table, "qat-loss", shape=QatLoss, expression="bits == 16")


def test_each_control_counts_with_its_best_cooldown_and_each_run_with_its_best_decay() -> None:
    row = {"n_total": 1000, "d_total": 9000, "status": "finished"}
    control = {**row, "d_fp": 9000, "d_qat": 0, "schedule": "full-precision"}
    qat = {**row, "d_fp": 5000, "d_qat": 4000, "schedule": "classic", "bits": 4.0, "cooldown": 0.2}
    table = runs.table(
        [
            {**control, "run_id": "short", "cooldown": 0.2, "loss": 3.0},
            {**control, "run_id": "long", "cooldown": 0.5, "loss": 2.9},
            {**qat, "run_id": "whole", "qat_decay": 1.0, "loss": 3.2},
            {**qat, "run_id": "half", "qat_decay": 0.5, "loss": 3.1},
            {**qat, "run_id": "old", "seed": 1, "loss": 3.2},
        ]
    )
    chosen = select(table, "qat-loss", shape=QatLoss)
    assert chosen.run_id == ["long", "half", "old"]
    kept = select(table, "qat-loss", shape=QatLoss, keep_tuning=True)
    assert kept.method[2] == kept.method[4], "a table that does not say decayed over the whole phase"


def test_n_is_a_switch() -> None:
    chosen = select(sweep_table(), "chinchilla", shape=Chinchilla, n="nonembedding")
    assert chosen.x.n.tolist() == [80_000.0]


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match="schedule fused"):
        select(sweep_table().slice(3, 1), "qat-loss", shape=QatLoss)


def test_unknown_or_missing_columns_are_named() -> None:
    with pytest.raises(UsageError, match="'flops' is no column"):
        fit({"n_total": [1.0], "loss": [1.0], "flops": [1.0]}, FitOptions(law="chinchilla"))
    with pytest.raises(UsageError, match="column n_total is missing"):
        fit({"loss": [1.0]}, FitOptions(law="chinchilla"))


def test_one_bit_width_leaves_its_exponents_undetermined_and_says_so() -> None:
    x = qat_points(500)
    keep = (x.bits == 4) | ~x.quantized
    fitted = fit(table(x.take(keep), observed(TRUE_QAT, x)[keep]), FitOptions(law="qat-loss"))
    assert fitted.params["kappa"] == fitted.params["chi"] == fitted.params["mu"] == 0
    said = " ".join(fitted.identifiability)
    for name in ("kappa", "chi", "mu"):
        assert f"{name} cannot be determined" in said
    assert "same bits (4)" in said
    inside = Inputs.of(n=396e6, d_total=4e10, bits=4, fraction=0.3)
    assert fitted.predict(inside)[0] == pytest.approx(TRUE_QAT.predict(inside)[0], rel=0.01)


def test_without_full_precision_rows_one_bit_width_is_undetermined() -> None:
    x = qat_points(500)
    keep = x.bits == 4
    fitted = fit(table(x.take(keep), observed(TRUE_QAT, x)[keep]), FitOptions(law="qat-loss"))
    assert fitted.status is Status.UNDETERMINED
    assert any("E and theta cannot be told apart" in s for s in fitted.identifiability)
    assert any("no full-precision rows" in s for s in fitted.identifiability)


def test_terms_without_rows_are_refused_or_left_out_when_asked() -> None:
    x = qat_points(300)
    keep = ~x.quantized
    columns = table(x.take(keep), observed(TRUE_QAT, x)[keep])
    with pytest.raises(DataError, match=r"no row supports the term 'irreducible quantization'.*--restrict leaves out"):
        fit(columns, FitOptions(law="qat-loss"))
    fitted = fit(columns, FitOptions(law="qat-loss", restrict=True))
    assert fitted.params["theta"] == fitted.params["phi"] == fitted.params["lam"] == 0
    assert sum("fitted without it" in s for s in fitted.identifiability) == 3


def test_qat_from_scratch_alone_is_fitted_without_the_interaction() -> None:
    rng = np.random.default_rng(0)
    x = qat_points(300)
    scratch = Inputs.of(n=x.n, d_total=x.d_total, fraction=np.where(x.quantized, 1.0, 0.0), bits=x.bits)
    law = TRUE_QAT.replace({"lam": 0.0})
    columns = table(scratch, law.predict(scratch) * np.exp(0.001 * rng.standard_normal(300)))
    with pytest.raises(DataError, match="D_fp = 0"):
        fit(columns, FitOptions(law="qat-loss"))
    for options in ({"fix": {"lam": 0.0}}, {"restrict": True}):
        fitted = fit(columns, FitOptions(law="qat-loss", **options))  # type: ignore[arg-type]
        assert fitted.rows == 300
        assert fitted.params["lam"] == 0


def test_held_parameters_keep_their_values_exactly() -> None:
    x = chinchilla_points()
    fitted = fit(table(x, observed(TRUE_CHINCHILLA, x)), FitOptions(law="chinchilla", fix={"alpha": 0.34, "E": 1.8}))
    assert fitted.params["alpha"] == 0.34
    assert fitted.params["E"] == 1.8


def test_a_fixed_exponent_leaves_its_amplitude_free() -> None:
    x = chinchilla_points()
    law = TRUE_CHINCHILLA.replace({"A": 2e6, "alpha": 0.8, "C": 3e7, "beta": 0.9})
    fitted = fit(table(x, law.predict(x)), FitOptions(law="chinchilla", fix={"alpha": 0.8, "beta": 0.9}))
    assert fitted.params["A"] == pytest.approx(2e6, rel=1e-6)
    assert fitted.params["C"] == pytest.approx(3e7, rel=1e-6)


def test_too_few_rows_are_refused() -> None:
    x = chinchilla_points(4)
    with pytest.raises(DataError, match="4 rows cannot determine the 5 parameters"):
        fit(table(x, observed(TRUE_CHINCHILLA, x)), FitOptions(law="chinchilla"))


def test_poorly_told_parameters_are_named_with_what_would_help() -> None:
    """Bits 4 and 6 only, at high noise: the decay per bit rests on two widths."""
    x = qat_points(400, seed=1)
    keep = ~x.quantized | (x.bits >= 4)
    fitted = fit(table(x.take(keep), observed(TRUE_QAT, x, 0.01)[keep]), FitOptions(law="qat-loss"))
    said = " ".join([*fitted.identifiability, *fitted.flags])
    assert "bit width" in said
    assert "trade off" in said or "hardly determined" in said or "driven to 0" in said


def test_repeated_seeds_give_the_noise_and_lack_of_fit_is_said() -> None:
    x = chinchilla_points(100)
    twice = x.take(np.repeat(np.arange(100), 2))
    y = observed(TRUE_CHINCHILLA, twice, 0.002) * np.exp(0.02 * np.sin(3 * np.log(twice.n)))
    fitted = fit(table(twice, y, seed=np.tile([0.0, 1.0], 100)), FitOptions(law="chinchilla"))
    assert fitted.seed_noise == pytest.approx(0.002, rel=0.3)
    assert any("lack of fit" in f for f in fitted.flags)
    good = fit(
        table(twice, observed(TRUE_CHINCHILLA, twice, 0.002), seed=np.tile([0.0, 1.0], 100)),
        FitOptions(law="chinchilla"),
    )
    assert not any("lack of fit" in f for f in good.flags)


def test_a_delta_far_below_the_scatter_is_flagged() -> None:
    x = chinchilla_points(100)
    fitted = fit(table(x, observed(TRUE_CHINCHILLA, x, 0.05)), FitOptions(law="chinchilla", huber=1e-4))
    assert any("huber delta 0.0001" in f for f in fitted.flags)


def test_what_an_exponent_belongs_to() -> None:
    known = {p.name: axis_of(p) for p in Ouyang.published().parameters()}
    assert [known[name] for name in ("a", "b", "g", "k")] == ["model size", "tokens", "bits", "rows"]
    assert [axis_of(p) for p in QatFraction().parameters()] == ["tokens per parameter byte"]
    per_bits = ChinchillaPerBits.for_inputs(Inputs.of(n=1e9, d_total=1e10, bits=4, fraction=0.5))
    assert {p.name: axis_of(p) for p in per_bits.parameters()}["alpha_4"] == "model size"


def test_one_bit_width_cannot_show_how_many_bits_are_worth() -> None:
    rounded = np.where(np.arange(60) % 2, 4.0, np.nan)
    x = Inputs.of(n=np.tile([1e8, 3e8, 1e9], 20), d_total=np.geomspace(1e9, 1e12, 60), bits=rounded, fraction=0.0)
    y = Precision.published().predict(x)
    with pytest.raises(DataError, match="the same bits, which says nothing about gamma_post; fix it"):
        fit(table(x, y), FitOptions(law="precision", restrict=True))


def test_a_coordinate_that_no_row_sees_is_named() -> None:
    assert rank_deficient(["a", "b"], np.diag([1.0, 0.0])) == ["b"]
    assert rank_deficient(["a", "b"], np.ones((2, 2))) == ["a", "b"]
    assert rank_deficient(["a", "b"], np.eye(2)) == []


@pytest.mark.parametrize(("per_byte", "known"), [([0.5, 0.75], 4.0), ([0.5, 0.8], None), ([math.nan, 0.75], 4.0)])
def test_the_length_of_a_token_is_known_where_all_rows_say_one(per_byte: list[float], known: float | None) -> None:
    columns = {
        "n_total": [1e6, 1e6], "d_total": [1e8, 2e8], "loss": [2.0 * math.log(2), 3.0 * math.log(2)],
        "bits_per_byte": per_byte,
    }  # fmt: skip
    chosen = select(columns, "chinchilla", shape=Chinchilla)
    assert chosen.bytes_per_token == (None if known is None else pytest.approx(known))
