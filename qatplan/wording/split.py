"""What a comparison of splits says: regrets by cell and by rolling origin, by bit width, and who comes first where."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from qatplan.fitting.split.score import SplitComparison
from qatplan.fitting.split.summary import Entry, Scheme, Summary
from qatplan.laws.fit_parts import plain
from qatplan.wording.fit import left_out
from qatplan.wording.numbers import TEXT, Numbers
from qatplan.wording.sections import More, Section, Table, bullets, section

_TITLES = {"cell": "Held out by cell", "tokens": "Larger budgets", "size": "Larger models", "in sample": "In sample"}
_COLUMNS = 4
"""Distances beside each other on one line; the others are among the details."""
_BEGIN = {"cell": "By cell", "tokens": "On larger budgets", "size": "On larger models"}


def split_sections(compared: SplitComparison, *, details: bool = False, numbers: Numbers = TEXT) -> list[Section]:
    """A table a scheme, the least mean regret first; with `details` each by bit width, and the rows left out."""
    measured = (
        f"{compared.curves} curves of {compared.cells} cells (size, tokens, bits), {compared.interior} lowest inside. "
        "Regret is loss above a curve's lowest, in nats per token / 1000 (mnats)."
    )
    fitted = {e.name: e for e in compared.in_sample.entries}
    parts = [section("Regret of the QAT fraction", measured)]
    for scheme in compared.schemes:
        parts.append(section(_title(scheme), scheme.why_not, _table(scheme, fitted, numbers)))
        if details:
            parts.append(section(f"{_TITLES[scheme.way]}, mean regret by bits", _split_up(scheme, "by_bits")))
            if scheme.way != "cell" and scheme.entries and len(scheme.entries[0].by_distance) > _COLUMNS:
                title = f"{_TITLES[scheme.way]}, mean regret by distance from the fit"
                parts.append(section(title, _split_up(scheme, "by_distance")))
    parts += [section("Verdict", bullets(*verdict(compared))), section("Not scored", bullets(*_missing(compared)))]
    if details:
        return [*parts, section("Left out", left_out(compared.left_out))]
    drawn = any(e.overall and e.overall.intervals for s in compared.schemes for e in s.entries)
    return [*parts, section("", More("Bits and distances"), None if drawn else "--bootstrap 200 scores intervals.")]


def split_object(compared: SplitComparison) -> dict[str, Any]:
    """The JSON object of `qatplan compare --score split`; regrets are nats per token, errors of the loss are logs."""
    made: dict[str, Any] = plain(
        {
            "score": "split",
            "curves": compared.curves,
            "interior": compared.interior,
            "cells": compared.cells,
            "schemes": [_scheme(s) for s in compared.schemes],
            "in_sample": _scheme(compared.in_sample),
            "left_out": compared.left_out,
            "said": [*verdict(compared), *_missing(compared)],
        }
    )
    return made


def verdict(compared: SplitComparison) -> list[str]:
    """Who has the least regret in each scheme, and who cannot be told from it."""
    sentences, leading = [], list[set[str]]()
    for scheme in compared.schemes:
        ranked = [e for e in scheme.entries if e.overall is not None]
        if len(ranked) < 2:
            continue
        best, rivals = ranked[0], [e for e in ranked[1:] if not e.behind > 2 * e.behind_error]
        leading.append({best.name, *(e.name for e in rivals)})
        names = ", ".join(f"{e.name} ({_mean(e)})" for e in rivals)
        close = f"; not told from it: {names}" if names else ""
        sentences.append(f"{_BEGIN[scheme.way]}: {best.name} costs least ({_mean(best)}){close}")
    if leading and not set.intersection(*leading):
        sentences.append("These disagree; larger budgets and models are nearer to a plan beyond the runs")
    folds = {s.way: s.folds for s in compared.schemes}
    failing = [(e.name, s.way, e.uncertified) for s in compared.schemes for e in s.entries if e.uncertified]
    for name in dict.fromkeys(name for name, _, _ in failing):
        failed = sum(count for other, _, count in failing if other == name)
        tried = sum(folds[s.way] for s in compared.schemes for e in s.entries if e.name == name and e.overall)
        sentences.append(f"{name}: {failed} of {tried} fits did not pass their certificate")
    return sentences


def _title(scheme: Scheme) -> str:
    if not scheme.scored:
        return _TITLES[scheme.way]
    without = f", {scheme.unanswered} without an answer from all" if scheme.unanswered else ""
    return f"{_TITLES[scheme.way]}: {scheme.folds} fits a law, {scheme.scored} curves scored{without}"


def _table(scheme: Scheme, in_sample: dict[str, Entry], numbers: Numbers) -> Table:
    ranked = [(e, e.overall) for e in scheme.entries if e.overall is not None]
    columns: dict[str, Callable[[Entry, Summary], str | None]] = {"mean": lambda _, t: _mnats(t.mean_regret)}
    if scheme.way == "cell":
        columns["median"] = lambda _, t: _mnats(t.median_regret)
    columns["worst"] = lambda _, t: _mnats(t.worst_regret)
    distances = [d for d, _ in ranked[0][0].by_distance] if ranked and scheme.way != "cell" else []
    for upto in distances if len(distances) <= _COLUMNS else [*distances[: _COLUMNS - 1], distances[-1]]:
        columns[_upto(upto)] = lambda e, _, upto=upto: _mnats(dict(e.by_distance)[upto].mean_regret)  # type: ignore[misc]
    columns["off f"] = lambda _, t: _known(t.fraction_error, lambda v: f"{v:.3f}")
    if any(t.intervals for _, t in ranked):
        columns["holds"] = lambda _, t: _known(t.coverage, lambda v: f"{100 * v:.0f} %")
    columns["off loss"] = lambda _, t: _known(t.loss_error, numbers.percent)
    if scheme.way == "cell":
        columns["in sample"] = lambda e, _: _mean(in_sample[e.name])
    rows = tuple((e.name, *(cell(e, t) for cell in columns.values())) for e, t in ranked)
    return Table(headers=("law or rule", *columns), rows=rows, words=(0,))


def _split_up(scheme: Scheme, by: Literal["by_bits", "by_distance"]) -> Table:
    ranked = [e for e in scheme.entries if e.overall is not None]
    heads = [_upto(v) if by == "by_distance" else f"{v:g}" for v, _ in getattr(ranked[0], by)] if ranked else []
    rows = tuple((e.name, *(_mnats(t.mean_regret) for _, t in getattr(e, by))) for e in ranked)
    return Table(headers=("law or rule", *heads), rows=rows, words=(0,))


def _upto(distance: float) -> str:
    return f"to {distance:g}x"


def _missing(compared: SplitComparison) -> list[str]:
    found = [(e, s) for s in (*compared.schemes, compared.in_sample) for e in s.entries if e.error is not None]
    return list(dict.fromkeys(f"{e.name} ({_TITLES[s.way].lower()}): {e.error}" for e, s in found))


def _scheme(scheme: Scheme) -> dict[str, Any]:
    return {**{k: v for k, v in vars(scheme).items() if k != "entries"}, "entries": [_entry(e) for e in scheme.entries]}


def _entry(entry: Entry) -> dict[str, Any]:
    shown = {k: v for k, v in vars(entry).items() if k not in ("scores", "by_bits", "by_distance")}
    return {
        **shown,
        "by_bits": [{"bits": b, **vars(t)} for b, t in entry.by_bits],
        "by_distance": [{"up_to": d, **vars(t)} for d, t in entry.by_distance],
    }


def _known(value: float, shown: Callable[[float], str]) -> str | None:
    return None if math.isnan(value) else shown(value)


def _mean(entry: Entry) -> str | None:
    return None if entry.overall is None else _mnats(entry.overall.mean_regret)


def _mnats(nats: float) -> str:
    return f"{1e3 * nats:.1f}"
