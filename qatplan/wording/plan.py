"""A recommendation in words: the choice, how sure it is, what it beat, what it rests on, what would change it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from qatplan.laws.qat_fraction import PUBLISHED_A, PUBLISHED_MAE
from qatplan.planning.caveats import Concern, Flag
from qatplan.planning.comparisons import Rule
from qatplan.planning.evidence.split import SplitAdvice
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.recommend import Option, Recommendation
from qatplan.planning.trust import WITHHELD, Extrapolation
from qatplan.units import bits_per_byte, format_bytes, format_count
from qatplan.wording.fraction_advice import fraction_sections
from qatplan.wording.numbers import estimate, three
from qatplan.wording.sections import More, Section, Table, bullets, percent, section, sentence
from qatplan.wording.text import WIDTH, to_text

LINES = 25
"""Lines of a plan without details on a terminal of 80 columns."""
_WIDTHS, _CAVEATS = 5, 3
"""Bit widths and caveats that a plan without details shows at most."""
BUDGETS = {"memory": "memory", "tokens": "tokens", "flops": "FLOPs", "gpu_hours": "device hours"}


def plan_sections(advice: Recommendation | FractionAdvice, *, details: bool = False) -> list[Section]:
    """Advice in titled sections: everything, or what fits a screen."""
    if isinstance(advice, FractionAdvice):
        return fraction_sections(advice, details=details)
    if details:
        return [
            headline(advice),
            why(advice),
            section("The split", *_split(advice)),
            alternatives(advice),
            section("Against the usual rules", bullets(*map(_rule, advice.rules))),
            full_precision(advice),
            continuation(advice),
            schedule(advice),
            section("What it rests on", bullets(*map(sentence, advice.assumptions))),
            changes(advice),
        ]
    if advice.extrapolation.withheld:
        return withheld(advice)
    check = None if advice.split is None else _checked(advice.split)
    parts = [
        summary(advice),
        section("", alternatives_table(advice, _WIDTHS if check is None else _WIDTHS - 1)),
        section("", check, _deviations(advice) if check is None else None),
    ]
    return [*parts, _caveats(advice, LINES - to_text(parts).count("\n") - 4)]


def withheld(advice: Recommendation) -> list[Section]:
    """A plan without the law's numbers, where they would be asked too far away from what was measured."""
    rows = tuple(
        (
            f"{split.bits:g}",
            format_count(split.params),
            format_count(split.tokens),
            f"{split.tokens_per_parameter_byte:.3g}",
            f"{split.fraction:.3f}",
            format_count(split.qat_tokens),
            format_bytes(split.memory_bytes),
        )
        for split in sorted(advice.published, key=lambda split: split.bits)
    )
    headers = ("bits", "params", "tokens", "tokens/byte", "fraction", "QAT tokens", "memory")
    low, high = PUBLISHED_MAE
    place = (
        f"In its place the published fraction law, f = exp(-{PUBLISHED_A:g} / ln S) with S tokens per parameter byte "
        f"(arXiv 2509.22935: 86M to 2.2B parameters, mean error {low:g} to {high:g} on the fraction):"
    )
    return [
        section(
            "Plan",
            _trust(advice),
            f"The fit has nothing to say here: {'; '.join(advice.extrapolation.sentences)}.",
            place
            if rows
            else "The split is the one that was given."
            if advice.problem.budgets.fraction is not None
            else "The plan is in full precision, and has no split."
            if not advice.choice.plan.quantized
            else "The published fraction law covers none of these widths: S is 1 token per parameter byte or less.",
            warning=True,
        ),
        section("", Table(headers=headers, rows=rows)),
        section(
            "",
            "Which width is best, and what the loss will be, takes runs nearer to this size.",
            More(f"What {advice.fit['law']} says, {WITHHELD:g} times outside its range and more"),
        ),
    ]


def _level(advice: Recommendation) -> str:
    return f"{percent(advice.problem.level, 'g')} interval"


def _train(advice: Recommendation) -> str:
    plan = advice.choice.plan
    if not plan.quantized:
        size, tokens = format_count(plan.layout.parameters), format_count(plan.tokens)
        return f"Train {size} parameters in full precision ({plan.bits:g} bits) on {tokens} tokens."
    if advice.continuation is not None:
        phases = f"{format_count(plan.d_qat)} tokens of QAT after the {format_count(plan.d_fp)} the model has seen"
    elif plan.d_qat < 1:
        phases = f"{format_count(plan.tokens)} tokens in full precision, with hardly any QAT after them"
    else:
        phases = (
            f"{format_count(plan.tokens)} tokens: {format_count(plan.d_fp)} in full precision, then "
            f"{format_count(plan.d_qat)} of QAT"
        )
    return f"Train {format_count(plan.layout.parameters)} parameters at {plan.bits:g} bits on {phases}."


def _fraction(advice: Recommendation) -> str | None:
    option = advice.choice
    if not option.plan.quantized:
        return None
    value = f"QAT fraction {option.plan.fraction:.3f}"
    interval = fixed(option.fraction_interval)
    return f"{value} ({_level(advice)} {interval})." if interval else f"{value}."


def fixed(interval: tuple[float, float] | None) -> str:
    """The interval of a fraction, to three decimals; empty without one."""
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _loss(advice: Recommendation, *, new_run: bool) -> str:
    option = advice.choice
    value, interval = estimate(option.plan.loss, option.loss_interval)
    known = advice.bytes_per_token
    per_byte = "" if known is None else f", {bits_per_byte(option.plan.loss, known):.3f} bits per byte"
    text = f"Predicted loss {value} nats per token"
    if not interval:
        return f"{text}{per_byte} (no interval: the fit has no draws)."
    run = advice.new_run_interval
    if not new_run or run is None:
        return f"{text} ({_level(advice)} {interval}{' for the mean' if new_run else ''}){per_byte}."
    alone = estimate(option.plan.loss, run)[1]
    return f"{text} ({_level(advice)} {interval} for the mean, {alone} for one new run){per_byte}."


def _cost(advice: Recommendation) -> str:
    cost = advice.cost
    money = "" if cost.money is None else f", {cost.money:,.2f} in money"
    device = advice.problem.training.hardware.name
    return (
        f"Memory {format_bytes(advice.choice.plan.memory_bytes)} at inference; training takes {cost.flops:.3g} FLOPs, "
        f"{three(cost.gpu_hours)} {device} hours, {three(cost.energy_kwh)} kWh at the device{money}."
    )


def _trust(advice: Recommendation) -> str | None:
    return None if advice.status.trustworthy else f"Not to be relied upon: {advice.status.message}."


def summary(advice: Recommendation) -> Section:
    """The plan, how sure it is, and what it takes, in three sentences."""
    option = advice.choice
    interval = "" if option.fraction_interval is None else f", {_level(advice)} {fixed(option.fraction_interval)}"
    sure = ""
    if option.probability_best is not None and advice.alternatives:
        share = f"lowest of the widths in {percent(option.probability_best, '.0f')} of {advice.draws} draws"
        close = [other for other in advice.alternatives if other.within_noise]
        others = f"{_bits(close)} bits" if len(close) <= _CAVEATS else f"{len(close)} other widths"
        sure = f"; {share}, so {others} may be as good" if close else f"; {share}"
        shown = [estimate(o.plan.loss, o.loss_interval)[0] for o in advice.options]
        if (alike := shown.count(shown[0]) - 1) and not close:
            sure = f"; {alike} other width{'s' if alike > 1 else ''} as low, to the digits known"
    share = f" (fraction {option.plan.fraction:.3f}{interval})" if option.plan.quantized else ""
    plain = f"{_train(advice)[:-1]}{share}."
    return section(
        "Plan",
        _trust(advice),
        *([plain] if advice.split is None else [_train(advice), _flat(advice, advice.split)]),
        f"{_loss(advice, new_run=False)[:-1]}{sure}.",
        f"Memory {format_bytes(option.plan.memory_bytes)}; training {advice.cost.flops:.3g} FLOPs, "
        f"{three(advice.cost.gpu_hours)} {advice.problem.training.hardware.name} hours.",
        warning=not advice.status.trustworthy,
    )


def _flat(advice: Recommendation, split: SplitAdvice) -> str:
    """The fractions that are as good as the best, then the best."""
    given = advice.problem.tolerance is not None
    cost = f"{split.tolerance:.2g} nats per token" if given else f"one run scatters ({split.tolerance:.2g} nats)"
    interval = advice.choice.fraction_interval
    sure = "" if interval is None else f"; {_level(advice)} {fixed(interval)}"
    least = " (the least measured)" if split.flat[0] <= split.measured[0] else ""
    most = " (the most measured)" if split.flat[1] >= split.measured[1] else ""
    return (
        f"QAT fractions from {split.flat[0]:.2f}{least} to {split.flat[1]:.2f}{most} cost less than {cost}; "
        f"best {advice.choice.plan.fraction:.3f} ({split.answer.law}{sure})."
    )


def _split(advice: Recommendation) -> list[str]:
    return [] if advice.split is None else [_flat(advice, advice.split), _checked(advice.split)]


def _checked(split: SplitAdvice) -> str:
    """What the other law and the measured curves say of the fraction."""
    near, sentences = split.nearest, list[str]()
    if split.other is not None:
        interval = fixed(split.other.interval)
        said = f"{split.other.fraction:.3f}" + (f" ({interval})" if interval else "")
        sentences.append(f"The law {split.other.law} says {said}.")
    where = f"{format_count(near.n)} parameters, {format_count(near.d_total)} tokens, {near.bits:g} bits"
    end = ", the end of what was measured" if near.at_end else ""
    if split.answer.interval and not split.answer.interval[0] <= near.fraction <= split.answer.interval[1]:
        end += ", outside the interval"
    sentences.append(f"The nearest measured curve ({where}) is lowest at {near.fraction:.3f}{end}.")
    known = [a for a in (split.answer, split.other) if a is not None and not math.isnan(a.mean_regret)]
    costs = [f"{1e3 * a.mean_regret:.1f} by {a.law}{' (held out)' if a.held_out else ''}" for a in known]
    if costs:
        sentences.append(f"On {split.curves} measured curves splits cost, in thousandths of a nat: {', '.join(costs)}.")
    return " ".join(sentences)


def headline(advice: Recommendation) -> Section:
    """The plan with all its numbers."""
    return section(
        "Recommendation",
        _trust(advice),
        _train(advice),
        _fraction(advice),
        _loss(advice, new_run=True),
        _cost(advice),
        warning=not advice.status.trustworthy,
    )


def why(advice: Recommendation) -> Section:
    """Why this bit width, and what cannot be told from it."""
    choice, target = advice.choice, advice.problem.budgets.target_loss
    bits, best, at_equal = f"{choice.plan.bits:g}", None, "" if target is None else " at equal FLOPs"
    if choice.probability_best is not None and advice.alternatives:
        share = percent(choice.probability_best, ".0f")
        best = f"{bits} bits has the lowest loss{at_equal} in {share} of {advice.draws} draws of the law's parameters."
    used = " and ".join(BUDGETS[name] for name in choice.plan.binding)
    close = _bits(option for option in advice.alternatives if option.within_noise)
    hidden = _bits(o for o in advice.alternatives if o.within_scatter and not o.within_noise)
    return section(
        "Why",
        "It has the lowest predicted loss of all widths tried."
        if target is None
        else f"It reaches the target loss {target:g} with the fewest FLOPs of all widths tried.",
        f"Used up: {used}." if used else None,
        best,
        f"{bits} and {close} bits are indistinguishable here." if close else None,
        f"In single runs it would hardly show: {hidden} bits differ by less than one run scatters." if hidden else None,
    )


def _bits(options: Iterable[Option]) -> str:
    return ", ".join(f"{option.plan.bits:g}" for option in options)


def alternatives_table(advice: Recommendation, most: int | None = None) -> Table | None:
    """The bit widths with their best plans, the choice first; None without alternatives.

    Parameters, tokens or FLOPs that all widths share are left out, and FLOPs where a terminal has no room for them.
    """
    options = advice.options[:most]
    if len(options) < 2:
        return None
    plans = [option.plan for option in options]
    losses = [estimate(option.plan.loss, option.loss_interval) for option in options]
    columns: dict[str, list[str]] = {
        "bits": [f"{plan.bits:g}" for plan in plans],
        "params": [format_count(plan.layout.parameters) for plan in plans],
        "tokens": [format_count(plan.tokens) for plan in plans],
        "fraction": [f"{plan.fraction:.3f}" if plan.quantized else "" for plan in plans],
        "loss": [value for value, _ in losses],
        _level(advice): [interval for _, interval in losses],
        "best in": ["" if o.probability_best is None else percent(o.probability_best, ".0f") for o in options],
        "FLOPs": _flops(options),
        "memory": [format_bytes(plan.memory_bytes) for plan in plans],
    }
    shared = [name for name in ("params", "tokens", "FLOPs") if len(set(columns[name])) == 1]
    kept = {name: cells for name, cells in columns.items() if any(cells) and name not in shared}
    if "FLOPs" in kept and sum(max(map(len, (name, *cells))) + 2 for name, cells in kept.items()) > WIDTH:
        del kept["FLOPs"]
    return Table(headers=tuple(kept), rows=tuple(zip(*kept.values(), strict=True)), strong=0)


def _flops(options: Iterable[Option]) -> list[str]:
    return [f"{option.plan.flops:.3g}" for option in options]


def alternatives(advice: Recommendation) -> Section:
    """What the choice beat, and the widths without a plan."""
    table, flops = alternatives_table(advice), _flops(advice.options)
    missing = table is not None and "FLOPs" not in table.headers and len(set(flops)) > 1
    return section(
        "What it beat",
        table,
        _verdicts(advice),
        bullets(
            f"FLOPs in this order: {', '.join(flops)}." if missing else None,
            *(f"{bits} bits: {reason}" for bits, reason in advice.excluded.items()),
        ),
    )


def _verdicts(advice: Recommendation) -> Table | None:
    """How sure each width's fraction is, and whether it can be told from the choice."""
    if len(advice.options) < 2:
        return None
    rows = []
    for option in advice.options:
        verdict = "worse" if not option.within_noise else "cannot be told from the choice"
        interval = estimate(option.plan.fraction, option.fraction_interval)[1] if option.fraction_interval else None
        rows.append((f"{option.plan.bits:g}", interval, "chosen" if option is advice.choice else verdict))
    return Table(headers=("bits", f"fraction, {_level(advice)}", "verdict"), rows=tuple(rows), words=(1, 2), strong=0)


def _rule(rule: Rule) -> str:
    name = f"{rule.name} (fraction {rule.fraction:g})"
    if rule.loss is None:
        return f"{name}: {rule.source}."
    least = "at least " if rule.at_least else ""
    source = "" if rule.by_law else f"; {rule.source}"
    return (
        f"{name}: loss {least}{rule.loss:.4f} nats per token, {least}{rule.loss_cost:.4f} more; wastes {least}"
        f"{format_count(rule.wasted_tokens or 0.0)} tokens ({percent(rule.wasted_share or 0.0)}){source}."
    )


def _deviations(advice: Recommendation) -> str | None:
    """What other splits would cost and larger budgets gain, in a paragraph."""
    parts = []
    costs = [
        f"{rule.name.partition(',')[0]} {'at least ' if rule.at_least else ''}{rule.loss_cost:.4f} "
        f"({percent(rule.wasted_share or 0.0)})"
        for rule in advice.rules
        if rule.loss_cost is not None
    ]
    if costs:
        parts.append(
            f"Other splits cost, in nats per token above the law's best (and tokens wasted): {', '.join(costs)}."
        )
    parts += [
        f"Twice the {BUDGETS[budget]} would gain {advice.choice.plan.loss - loss:.4f}."
        for budget, loss in advice.sensitivity.items()
    ]
    return " ".join(parts) or None


def full_precision(advice: Recommendation) -> Section:
    """The same model in full precision, and the tokens that match it."""
    full, bits = advice.full_precision, f"{advice.choice.plan.bits:g}"
    if not advice.choice.plan.quantized:
        return section("Full precision")
    tokens = "" if full.tokens is None else f" ({format_count(full.tokens)} tokens)"
    return section(
        "Full precision",
        bullets(
            f"The same model in full precision on the same tokens: {full.loss:.4f} nats per token; {bits} bits are "
            f"{full.gap:.4f} above it.",
            f"Tokens for {bits} bits to match it: {full.verdict}{tokens}.",
            _matching(advice),
        ),
    )


def _matching(advice: Recommendation) -> str | None:
    full = advice.full_precision
    if full.never_share is None:
        return None
    never = f"never in {percent(full.never_share, '.0f')} of the draws"
    if full.tokens_interval is None:
        return f"By the draws: {never}."
    low, high = full.tokens_interval
    end = "never" if high is None else format_count(high)
    return f"{_level(advice)} of those tokens: {format_count(low)} to {end}" + (
        f"; {never}." if full.never_share > 0 else "."
    )


def continuation(advice: Recommendation) -> Section:
    """How many QAT tokens pay for a given model; empty without one."""
    given = advice.continuation
    if given is None:
        return section("The given model")
    pays, balanced = given.worthwhile_qat_tokens, given.balanced_qat_tokens
    curve = ", ".join(f"{format_count(tokens)}: {loss:.4f}" for tokens, loss in given.curve)
    return section(
        "The given model",
        bullets(
            f"After {format_count(given.fp_tokens)} tokens in full precision its loss is predicted at "
            f"{given.full_precision_loss:.4f} nats per token.",
            f"By this law none pays: already at {format_count(pays or 0.0)}, the smallest fraction fitted, doubling "
            "the QAT tokens gains less than 0.1 % of the loss."
            if given.none_pays
            else "Every doubling of the QAT tokens still gains 0.1 % of the loss."
            if pays is None
            else f"QAT tokens pay until {format_count(pays)}: beyond, doubling them gains less than 0.1 % of the loss.",
            None
            if balanced is None
            else f"With {format_count(balanced)} QAT tokens the given full-precision tokens would be the best share of "
            "the total.",
            f"Loss by QAT tokens: {curve}.",
        ),
    )


def schedule(advice: Recommendation) -> Section:
    """Whether to fuse cooldown and QAT; empty for a plan without QAT."""
    fusion = advice.fusion
    if not advice.choice.plan.quantized:
        return section("Schedule")
    do = "Let the learning rate decay while quantized (fused)" if fusion.advised else "Do not fuse cooldown and QAT"
    worth = "" if fusion.saved_tokens is None else f"; worth {format_count(fusion.saved_tokens)} tokens here"
    low, high = fusion.saved_tokens_range or (None, None)
    if low is not None:
        most = "more than any budget" if high is None else format_count(high)
        worth = f"; by this law such gains are worth {format_count(low)} to {most} tokens here"
    return section("Schedule", f"{do}: {fusion.why}{worth} ({fusion.source}).")


def changes(advice: Recommendation) -> Section:
    """Larger budgets, measurements that would settle something, and what the fit flags."""
    loss = advice.choice.plan.loss
    told = {Concern.NO_INTERVALS, Concern.FRACTION_AT_END, Concern.FRACTION_UNCERTAIN, Concern.FIT}
    return section(
        "What would change it",
        bullets(
            *(
                f"Twice the {BUDGETS[budget]}: loss {less:.4f} nats per token, {loss - less:.4f} less."
                for budget, less in advice.sensitivity.items()
            ),
            "Runs at the widths that cannot be told apart would settle the choice of bits."
            if any(option.within_noise for option in advice.alternatives)
            else None,
            *distance_sentences(advice.extrapolation),
            *(caveat(flag) for flag in advice.flags if flag.concern in told),
        ),
    )


def distance_sentences(distance: Extrapolation) -> list[str]:
    """How far outside the fitted ranges a point lies, and whether that is too far."""
    lines = [sentence(text) for text in distance.sentences]
    if distance.beyond:
        lines.append(
            f"That is beyond the factor of {distance.limit:g} (and 1 bit) up to which a fit is trusted: measure closer."
        )
    elif distance.factor is None:
        lines.append("The fit records no ranges, so the distance from its data is unknown.")
    return lines


def caveat(flag: Flag) -> str:
    """A flag as a sentence for people."""
    return sentence(f"the fit: {flag.sentence}" if flag.concern is Concern.FIT else flag.sentence)


def _caveats(advice: Recommendation, room: int) -> Section:
    """The weightiest caveats that `room` lines hold, at least one, and how to see the rest."""
    order = [Concern.EXTRAPOLATION, *Concern] if advice.extrapolation.beyond else [*Concern]
    flags = sorted(advice.flags, key=lambda flag: order.index(flag.concern))
    # All distances that there is room for stand in the place of the first.
    distances = list(advice.extrapolation.sentences)
    while len(distances) > 1 and _lines([sentence("; ".join(distances))]) > room:
        distances.pop()
    distance = sentence("; ".join(distances)) if distances else ""
    told = dict.fromkeys(
        distance if distance and flag.concern is Concern.EXTRAPOLATION else caveat(flag) for flag in flags
    )
    shown: list[str] = []
    for text in told:
        if shown and (_lines([*shown, text]) > room or len(shown) == _CAVEATS):
            break
        shown.append(text)
    left = len(told) - len(shown)
    hidden = [f"{left} more caveat{'s' if left > 1 else ''}"] if left else []
    if (widths := len(advice.options) - _WIDTHS + (advice.split is not None)) > 0:
        hidden.append(f"{widths} more width{'s' if widths > 1 else ''}")
    if advice.excluded:
        hidden.append(f"why {', '.join(advice.excluded)} bits have no plan")
    more = f"{', '.join(hidden)}, and what it rests on" if hidden else "What it rests on"
    return section("Caveats" if shown else "", bullets(*shown), More(more))


def _lines(items: list[str]) -> int:
    return to_text([section("", bullets(*items))], WIDTH).count("\n") + 1
