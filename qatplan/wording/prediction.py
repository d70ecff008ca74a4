"""A prediction in words."""

from __future__ import annotations

from qatplan.planning.caveats import Concern
from qatplan.planning.prediction import Prediction
from qatplan.planning.trust import WITHHELD
from qatplan.units import bits_per_byte, format_count
from qatplan.wording.numbers import Interval, estimate
from qatplan.wording.plan import caveat, distance_sentences
from qatplan.wording.sections import Section, Table, bullets, percent, section, sentence


def prediction_sections(predicted: Prediction) -> list[Section]:
    """The loss with its intervals, and what speaks against relying on it."""
    what = "in full precision" if predicted.bits is None else f"at {predicted.bits:g} bits"
    head = f"{format_count(predicted.params)} parameters on {format_count(predicted.tokens)} tokens {what}"
    split = None
    if predicted.fraction is not None and not (predicted.extrapolation.withheld and predicted.fraction_chosen):
        which = "the law's best" if predicted.fraction_chosen else "given"
        split = (
            f"QAT fraction {predicted.fraction:.3f} ({which}), {predicted.tokens_per_parameter_byte:.4g} tokens per "
            "parameter byte."
        )
    told = (Concern.EXTRAPOLATION, Concern.LOSSES_NEED_A_SWEEP)
    flags = (caveat(flag) for flag in predicted.flags if flag.concern not in told)
    trust = None if predicted.status.trustworthy else f"Not to be relied upon: {predicted.status.message}."
    return [
        section("Prediction", trust, f"{head}.", split, _losses(predicted), warning=not predicted.status.trustworthy),
        section("Caveats", bullets(*flags, *distance_sentences(predicted.extrapolation))),
        section("What it rests on", bullets(*map(sentence, predicted.assumptions))),
    ]


def _losses(predicted: Prediction) -> Table | str:
    """What the law predicts, in nats per token."""
    if predicted.loss is None:
        return "The fraction law gives no loss; fit qat-loss on a sweep."
    if predicted.extrapolation.withheld:
        return f"No loss is shown: {WITHHELD:g} times outside what was measured a fit has nothing to say."
    mean = predicted.loss_interval
    rows: list[tuple[str, float, Interval | None]] = [("mean of such runs", predicted.loss, mean)]
    if predicted.new_run_interval is not None:
        rows.append(("one new run", predicted.loss, predicted.new_run_interval))
    if predicted.optimal_fraction is not None and not predicted.fraction_chosen and predicted.optimal_loss is not None:
        rows.append((f"at the best fraction, {predicted.optimal_fraction:.3f}", predicted.optimal_loss, None))
    if predicted.bits is not None and predicted.full_precision_loss is not None:
        rows.append(("full precision, same tokens", predicted.full_precision_loss, None))
    columns: dict[str, list[str | None]] = {
        "": [name for name, _, _ in rows],
        "loss, nats per token": [estimate(loss, interval or mean)[0] for _, loss, interval in rows],
    }
    # Without draws there are no intervals to show.
    if mean is not None:
        said = [None if interval is None else estimate(loss, interval)[1] for _, loss, interval in rows]
        columns[f"{percent(predicted.level, 'g')} interval"] = said
    if predicted.bytes_per_token is not None:
        columns["bits per byte"] = [f"{bits_per_byte(loss, predicted.bytes_per_token):.3f}" for _, loss, _ in rows]
    return Table(headers=tuple(columns), rows=tuple(zip(*columns.values(), strict=True)), words=(0,))
