"""A prediction in words."""

from __future__ import annotations

from qatplan.planning.caveats import Concern
from qatplan.planning.prediction import Prediction
from qatplan.units import format_count
from qatplan.wording.numbers import estimate
from qatplan.wording.plan import caveat, distance_sentences
from qatplan.wording.sections import Section, Table, bullets, section
from qatplan.wording.sentences import percent, sentence


def prediction_sections(said: Prediction) -> list[Section]:
    """The loss with its intervals, and what speaks against relying on it."""
    what = "in full precision" if said.bits is None else f"at {said.bits:g} bits"
    head = f"{format_count(said.params)} parameters on {format_count(said.tokens)} tokens {what}"
    split = None
    if said.fraction is not None:
        which = "the law's best" if said.fraction_chosen else "given"
        split = (
            f"QAT fraction {said.fraction:.3f} ({which}), {said.tokens_per_parameter_byte:.4g} tokens per parameter "
            "byte."
        )
    told = (Concern.EXTRAPOLATION, Concern.LOSSES_NEED_A_SWEEP)
    flags = (caveat(flag) for flag in said.flags if flag.concern not in told)
    trust = None if said.status.trustworthy else f"Not to be relied upon: {said.status.message}."
    return [
        section("Prediction", trust, f"{head}.", split, _losses(said), warning=not said.status.trustworthy),
        section("Caveats", bullets(*flags, *distance_sentences(said.extrapolation))),
        section("What it rests on", bullets(*map(sentence, said.assumptions))),
    ]


def _losses(said: Prediction) -> Table | str:
    """What the law predicts, in nats per token."""
    if said.loss is None:
        return "The fraction law gives no loss; fit qat-loss on a sweep."
    value, mean = estimate(said.loss, said.loss_interval)
    rows: list[tuple[str | None, ...]] = [("mean of such runs", value, mean or None)]
    if said.new_run_interval is not None:
        rows.append(("one new run", value, estimate(said.loss, said.new_run_interval)[1]))
    if said.optimal_fraction is not None and not said.fraction_chosen and said.optimal_loss is not None:
        best = estimate(said.optimal_loss, said.loss_interval)[0]
        rows.append((f"at the best fraction, {said.optimal_fraction:.3f}", best, None))
    if said.bits is not None and said.full_precision_loss is not None:
        rows.append(("full precision, same tokens", estimate(said.full_precision_loss, said.loss_interval)[0], None))
    # Without draws there are no intervals to show.
    kept = 3 if any(row[2] for row in rows) else 2
    headers = ("", "loss, nats per token", f"{percent(said.level, 'g')} interval")
    return Table(headers=headers[:kept], rows=tuple(row[:kept] for row in rows), words=(0,))
