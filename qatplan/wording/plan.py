"""Plans as a short memo for people: the choice, why, what it beat, what it rests on, what would change it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qatplan.units import format_bytes, format_count

if TYPE_CHECKING:
    from qatplan.models.memory import Memory
    from qatplan.planning.fraction_only import FractionAdvice
    from qatplan.planning.intervals import Interval
    from qatplan.planning.prediction import Prediction
    from qatplan.planning.recommend import Option, Recommendation
    from qatplan.planning.trust import Extrapolation
    from qatplan.wording.sections import Section

_BUDGETS = {"memory": "memory", "tokens": "tokens", "flops": "FLOPs", "gpu_hours": "device hours"}


def loss_text(loss: float, interval: Interval | None) -> str:
    """A loss with as many decimals as its interval carries: two digits of the half-width, four without an interval."""
    return f"{loss:.{_decimals(interval)}f}"


def _decimals(interval: Interval | None) -> int:
    if interval is None or not 0 < interval[1] - interval[0] < math.inf:
        return 4
    return min(max(1 - math.floor(math.log10(0.5 * (interval[1] - interval[0]))), 2), 6)


def _range_text(interval: Interval | None, decimals: int) -> str:
    if interval is None:
        return ""
    # Some draws of a law that is hardly determined give a split no finite loss.
    low, high = ("unbounded" if math.isinf(end) else f"{end:.{decimals}f}" for end in interval)
    return f"{low} to {high}"


def _plain(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{float(f'{value:.3g}'):,.10g}"


def recommendation(advice: Recommendation) -> str:
    """The memo of a recommendation."""
    parts = [
        _headline(advice),
        _section("Why", _why(advice)),
        _section("What it beat", _alternatives(advice)),
        _section("Against the usual rules", _rules(advice)),
        _section("Full precision", _full_precision(advice)),
        _section("The given model", _continuation(advice)),
        _section("Schedule", _schedule(advice)),
        _section("What it rests on", [*advice.assumptions]),
        _section("What would change it", _changes(advice)),
    ]
    return "\n\n".join(part for part in parts if part)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _headline(advice: Recommendation) -> str:
    choice, plan, level = advice.choice, advice.choice.plan, _percent(advice.problem.level)
    if advice.continuation is not None:
        phases = f"{format_count(plan.d_qat)} tokens of QAT after the {format_count(plan.d_fp)} the model has seen"
    elif plan.d_qat < 1:
        phases = f"{format_count(plan.tokens)} tokens in full precision, with hardly any QAT after them"
    else:
        phases = (
            f"{format_count(plan.tokens)} tokens: {format_count(plan.d_fp)} in full precision, then "
            f"{format_count(plan.d_qat)} of QAT"
        )
    fraction = f"QAT fraction {plan.fraction:.3f}"
    if choice.fraction_interval is not None:
        fraction += f" ({level} interval {_range_text(choice.fraction_interval, 3)})"
    decimals = _decimals(choice.loss_interval)
    loss = f"Predicted loss {plan.loss:.{decimals}f} nats per token"
    if choice.loss_interval is not None:
        loss += f" ({level} interval {_range_text(choice.loss_interval, decimals)} for the mean"
        if advice.new_run_interval is not None:
            loss += f", {_range_text(advice.new_run_interval, decimals)} for one new run"
        loss += ")"
    elif advice.draws == 0:
        loss += " (no interval: the fit has no draws)"
    spent = advice.cost
    paid = f"{spent.flops:.3g} FLOPs, {_plain(spent.gpu_hours)} {advice.problem.rates.device.name} hours"
    paid += f", {_plain(spent.energy_kwh)} kWh at the device"
    if spent.money is not None:
        paid += f", {spent.money:,.2f} in money"
    lines = [
        f"Train {format_count(plan.layout.parameters)} parameters at {plan.bits:g} bits on {phases}.",
        f"{fraction[0].upper()}{fraction[1:]}.",
        f"{loss}.",
        f"Memory {format_bytes(plan.memory_bytes)} at inference; training takes {paid}.",
    ]
    if not advice.status.trustworthy:
        lines.insert(0, f"Not to be relied upon: {advice.status.message}.")
    return _section("Recommendation", lines)


def _why(advice: Recommendation) -> list[str]:
    choice, problem = advice.choice, advice.problem
    lines = []
    used = [_BUDGETS[name] for name in choice.plan.binding]
    if problem.target_loss is not None:
        lines.append(f"It reaches the target loss {problem.target_loss:g} with the fewest FLOPs of all widths tried.")
    else:
        lines.append("It has the lowest predicted loss of all widths tried.")
    if used:
        lines.append(f"Used up: {' and '.join(used)}.")
    if choice.probability_best is not None and advice.alternatives:
        at_equal = " at equal FLOPs" if problem.target_loss is not None else ""
        lines.append(
            f"{choice.plan.bits:g} bits has the lowest loss{at_equal} in {100 * choice.probability_best:.0f} % of "
            f"{advice.draws} draws of the law's parameters."
        )
    close = [f"{option.plan.bits:g}" for option in advice.alternatives if option.within_noise]
    if close:
        lines.append(f"{choice.plan.bits:g} and {', '.join(close)} bits are indistinguishable here.")
    scattered = [option for option in advice.alternatives if option.within_scatter and not option.within_noise]
    if scattered:
        widths = ", ".join(f"{option.plan.bits:g}" for option in scattered)
        lines.append(f"In single runs it would hardly show: {widths} bits differ by less than one run scatters.")
    return lines


def _alternatives(advice: Recommendation) -> list[str]:
    headers = ("bits", "params", "tokens", "QAT fraction", "loss", "interval", "best in", "FLOPs", "memory")
    rows = [_row(option) for option in (advice.choice, *advice.alternatives)]
    lines = _columns(headers, rows) if advice.alternatives else []
    return [*lines, *(f"{bits} bits: {reason}" for bits, reason in advice.excluded.items())]


def _row(option: Option) -> tuple[str, ...]:
    plan = option.plan
    return (
        f"{plan.bits:g}",
        format_count(plan.layout.parameters),
        format_count(plan.tokens),
        f"{plan.fraction:.3f}",
        loss_text(plan.loss, option.loss_interval),
        _range_text(option.loss_interval, _decimals(option.loss_interval)) or "-",
        "-" if option.probability_best is None else f"{100 * option.probability_best:.0f} %",
        f"{plan.flops:.3g}",
        format_bytes(plan.memory_bytes),
    )


def _columns(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (headers, *rows)]


def _rules(advice: Recommendation) -> list[str]:
    lines = []
    for rule in advice.rules:
        if rule.loss is None:
            lines.append(f"{rule.name} (fraction {rule.fraction:g}): {rule.source}.")
        else:
            least = "at least " if rule.at_least else ""
            lines.append(
                f"{rule.name} (fraction {rule.fraction:g}): loss {least}{rule.loss:.4f} nats per token, {least}"
                f"{rule.loss_cost:.4f} more; wastes {least}{format_count(rule.wasted_tokens or 0.0)} tokens "
                f"({100 * (rule.wasted_share or 0.0):.3g} %)"
                + ("." if rule.source == "the law" else f"; {rule.source}.")
            )
    return lines


def _full_precision(advice: Recommendation) -> list[str]:
    held = advice.full_precision
    bits = f"{advice.choice.plan.bits:g}"
    return [
        f"The same model in full precision on the same tokens: {held.loss:.4f} nats per token; {bits} bits are "
        f"{held.gap:.4f} above it.",
        f"Tokens for {bits} bits to match it: {held.verdict}"
        + ("." if held.tokens is None else f" ({format_count(held.tokens)} tokens)."),
        *_matching(advice),
    ]


def _matching(advice: Recommendation) -> list[str]:
    held = advice.full_precision
    if held.never_share is None:
        return []
    never = f"never in {100 * held.never_share:.0f} % of the draws"
    if held.tokens_interval is None:
        return [f"By the draws: {never}."]
    low, high = held.tokens_interval
    end = "never" if high is None else format_count(high)
    return [
        f"{_percent(advice.problem.level)} interval of those tokens: {format_count(low)} to {end}"
        + (f"; {never}." if held.never_share > 0 else ".")
    ]


def _continuation(advice: Recommendation) -> list[str]:
    held = advice.continuation
    if held is None:
        return []
    pays = held.worthwhile_qat_tokens
    lines = [
        f"After {format_count(held.fp_tokens)} tokens in full precision its loss is predicted at "
        f"{held.full_precision_loss:.4f} nats per token.",
        "Every doubling of the QAT tokens still gains 0.1 % of the loss."
        if pays is None
        else f"QAT tokens pay until {format_count(pays)}: beyond, doubling them gains less than 0.1 % of the loss.",
    ]
    if held.balanced_qat_tokens is not None:
        lines.append(
            f"With {format_count(held.balanced_qat_tokens)} QAT tokens the given full-precision tokens would be the "
            "best share of the total."
        )
    pairs = ", ".join(f"{format_count(tokens)}: {loss:.4f}" for tokens, loss in held.curve)
    return [*lines, f"Loss by QAT tokens: {pairs}."]


def _schedule(advice: Recommendation) -> list[str]:
    fused = advice.fused
    word = "Let the learning rate decay while quantized (fused)" if fused["advised"] else "Do not fuse cooldown and QAT"
    saved, reported = fused["saved_tokens"], fused["saved_tokens_range"]
    worth = "" if saved is None else f"; worth {format_count(saved)} tokens here"
    if reported is not None and reported[0] is not None:
        most = "more than any budget" if reported[1] is None else format_count(reported[1])
        worth = f"; by this law such gains are worth {format_count(reported[0])} to {most} tokens here"
    return [f"{word}: {fused['why']}{worth} ({fused['source']})."]


def _changes(advice: Recommendation) -> list[str]:
    plan, lines = advice.choice.plan, []
    for name, loss in advice.relief.items():
        lines.append(f"Twice the {_BUDGETS[name]}: loss {loss:.4f} nats per token, {plan.loss - loss:.4f} less.")
    close = [option for option in advice.alternatives if option.within_noise]
    if close:
        lines.append("Runs at the widths that cannot be told apart would settle the choice of bits.")
    lines += _distance(advice.extrapolation)
    lines += [flag for flag in advice.flags if flag.startswith(("fit:", "no-intervals", "fraction-"))]
    return lines


def _distance(distance: Extrapolation | None) -> list[str]:
    if distance is None:
        return []
    lines = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in distance.sentences]
    if distance.beyond:
        lines.append(
            f"That is beyond the factor of {distance.limit:g} (and 1 bit) up to which a fit is trusted: measure closer."
        )
    elif distance.factor is None:
        lines.append("The fit records no ranges, so the distance from its data is unknown.")
    return lines


def fraction_advice(advice: FractionAdvice) -> str:
    """The memo of the fraction law's answer."""
    choice = advice.choice
    interval = "" if choice.fraction_interval is None else f" (interval {_range_text(choice.fraction_interval, 3)})"
    head = [
        f"Of {format_count(choice.tokens)} tokens, train {format_count(choice.tokens * (1 - choice.fraction))} in full "
        f"precision and the last {format_count(choice.tokens * choice.fraction)} with {choice.bits:g}-bit weights.",
        f"QAT fraction {choice.fraction:.3f}{interval}, at {choice.tokens_per_parameter_byte:.4g} tokens per parameter "
        f"byte of {format_count(choice.params)} parameters; memory {format_bytes(choice.memory_bytes)} at inference.",
        "Losses, and the choice of bits, need a sweep: `qatplan sweep`, then `qatplan fit --law qat-loss`.",
    ]
    rows = [
        (f"{s.bits:g}", format_count(s.params), format_count(s.tokens), f"{s.tokens_per_parameter_byte:.4g}",
         f"{s.fraction:.3f}", format_bytes(s.memory_bytes))
        for s in (choice, *advice.alternatives)
    ]  # fmt: skip
    table = _columns(("bits", "params", "tokens", "tokens/byte", "QAT fraction", "memory"), rows)
    excluded = [f"{bits} bits: {reason}" for bits, reason in advice.excluded.items()]
    return "\n\n".join(
        part
        for part in (
            _section("Recommendation (fraction only)", head),
            _section("By bit width", [*(table if advice.alternatives else []), *excluded]),
            _section("What it rests on", [f"{line}." for line in advice.assumptions]),
        )
        if part
    )


def prediction(said: Prediction) -> str:
    """A prediction in a few lines."""
    what = "in full precision" if said.bits is None else f"at {said.bits:g} bits"
    lines = [f"{format_count(said.params)} parameters on {format_count(said.tokens)} tokens {what}"]
    if said.fraction is not None:
        which = "the law's best" if said.fraction_chosen else "given"
        lines.append(
            f"QAT fraction {said.fraction:.3f} ({which}), {said.tokens_per_parameter_byte:.4g} tokens per "
            "parameter byte"
        )
    if said.loss is None:
        lines.append("loss: the fraction law gives none; fit qat-loss on a sweep")
    else:
        decimals, level = _decimals(said.loss_interval), _percent(said.level)
        lines.append(f"loss {said.loss:.{decimals}f} nats per token")
        if said.loss_interval is not None:
            lines.append(f"{level} interval of the mean {_range_text(said.loss_interval, decimals)} nats per token")
        if said.new_run_interval is not None:
            lines.append(
                f"{level} interval of one new run {_range_text(said.new_run_interval, decimals)} nats per token"
            )
        if said.bits is not None and said.full_precision_loss is not None:
            lines.append(f"full precision on the same tokens {said.full_precision_loss:.{decimals}f} nats per token")
        if said.optimal_fraction is not None and not said.fraction_chosen and said.optimal_loss is not None:
            lines.append(
                f"the best fraction would be {said.optimal_fraction:.3f}, with loss {said.optimal_loss:.{decimals}f} "
                f"nats per token"
            )
    lines += [f"note: {flag}" for flag in said.flags if not flag.startswith("extrapolation")]
    lines += [f"assumed: {assumption}" for assumption in said.assumptions]
    return "\n".join([*lines, *_distance(said.extrapolation)])


def memory(held: Memory) -> str:
    """Itemised memory as a table."""
    rows = [(item.name, f"{item.bytes:,}", format_bytes(item.bytes), item.detail) for item in held.items]
    rows.append(("total", f"{held.total_bytes:,}", format_bytes(held.total_bytes), ""))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = [
        f"{r[0].ljust(widths[0])}  {r[1].rjust(widths[1])} bytes  {r[2].rjust(widths[2])}  {r[3]}".rstrip()
        for r in rows
    ]
    head = (
        f"{held.model} in {held.format}: {format_count(held.parameters)} parameters, {held.bits_per_weight:.3f} bits "
        f"per weight, file {format_bytes(held.weights_bytes)}"
    )
    notes = [f"assumed: {assumption}" for assumption in held.assumptions]
    return "\n".join([head, *(f"  {line}" for line in table), *notes])


def plan_sections(advice: Recommendation | FractionAdvice, *, details: bool = False) -> list[Section]:
    """Advice in titled sections."""
    from qatplan.planning.fraction_only import FractionAdvice as Fraction
    from qatplan.wording.sections import section

    text = fraction_advice(advice) if isinstance(advice, Fraction) else recommendation(advice)
    parts = [part.splitlines() for part in text.split("\n\n")]
    return [section(title, *(line.strip() for line in lines)) for title, *lines in parts]
