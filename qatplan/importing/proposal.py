"""The whole map of a foreign table as its columns suggest it, with the evidence, and what only a person can say."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from qatplan.importing.format_columns import format_column, width_columns
from qatplan.importing.recognise import SYNONYMS, normalised, recognise
from qatplan.importing.source import Source
from qatplan.importing.units import conversion, quote, scale
from qatplan.importing.values import CellError, convert, number_or_none
from qatplan.runs.schema import ALIASES, BY_NAME

_MORE: dict[str, tuple[str, ...]] = {
    "run_id": ("run_name",),
    "n_total": ("n", "model_size", "size", "model_params", "n_param", "num_parameters_total", "parameter_count"),
    "d_total": ("d", "n_train_tokens", "tokens_trained", "data_tokens", "token_count", "dataset_tokens"),
    "loss": ("val", "ppl", "perplexity", "val_ppl", "val_perplexity", "eval_ppl", "eval_perplexity", "lm_loss", "loss"),
    "bits": ("w_bit", "weight_bit", "bitwidth", "bit_width"),
    "seed": (),
    "learning_rate": ("learning_rate",),
    "batch_tokens": ("batch_size_tokens",),
}
_FLOPS = ("flops", "c", "compute", "total_flops", "train_flops", "training_flops", "compute_budget", "flop")
_NEEDED = ("n_total", "d_total", "loss")
_RANGES = {"n_total": (1e3, 1e13), "d_total": (1e3, 1e16), "loss": (0.0, 13.0)}
_HELD_OUT = re.compile(r"val|eval|test|held|dev")
_TRAIN = re.compile(r"(?:^|_)train|(?:^|_)tr_")
_SPLIT = re.compile(r"(?:.*_)?(?:qat(?:_.*)?|(?:qat_?)?(?:frac|share|split))")
"""A column that may hold the QAT fraction."""
_UNIT = re.compile(r"_(?:k|m|b|g|t|bn|mm|millions?|billions?|trillions?|bits?|in_(?:millions?|billions?)|1e\d+)_?$")
_CLOSE = 0.1
"""How far flops may be from 6 N D for the arithmetic to check out."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Which column is which field."""

    mapping: dict[str, str]
    """Field -> column or formula."""
    constants: dict[str, str]
    evidence: tuple[str, ...]
    """Why, a sentence a field, and what checks out between them."""
    questions: tuple[str, ...]
    """What the columns leave open; the table can be written only when there are none."""

    def command(self, source: str, out: str) -> str:
        """The command that confirms it; an open place is in capitals."""
        parts = ["qatplan", "import", source, "--out", out]
        for field, text in self.mapping.items():
            parts += ["--map", f"{field}={text}"]
        for field, text in self.constants.items():
            parts += ["--const", f"{field}={text}"]
        return shlex.join(parts)


def propose(read: Source) -> Proposal:
    """The map that names, ranges and arithmetic of a table's columns suggest."""
    mapping, questions, evidence = _by_name(read)
    constants: dict[str, str] = {}
    for field in ("n_total", "d_total", "loss"):
        if field in mapping:
            evidence.append(_range(read, field, mapping[field], questions))
    _tokens(read, mapping, evidence, questions)
    _sizes(read, mapping, questions)
    for field in _NEEDED:
        if field not in mapping and not any(q.startswith(_shown(field)) for q in questions):
            mapping[field] = "COLUMN"
            questions.append(f"{_shown(field)}: no column looks like it")
    in_numbers = width_columns(read.columns, read.rows)
    if "bits" not in mapping and in_numbers:
        mapping["bits"] = in_numbers[0]
        rivals = f"it could be any of {', '.join(in_numbers)}" if in_numbers[1:] else f"is it {in_numbers[0]}?"
        questions.append(f"bits: {rivals}")
    column = mapping.get("bits") or format_column(read.columns, read.rows)
    if column is not None and not {"d_qat", "d_fp", "fraction"} & mapping.keys() and _low_bits(read, column):
        likely = [c for c in read.columns if c not in mapping.values() and _SPLIT.match(normalised(c))]
        if likely:
            mapping["fraction"] = likely[0]
            rivals = f"it could be any of {', '.join(likely)}" if likely[1:] else f"is it {likely[0]}?"
            questions.append(f"fraction: some rows are quantized; {rivals}")
        else:
            constants["fraction"] = "1"
            questions.append("fraction: some rows are quantized; is 1 right, quantized from the start?")
    named = {_shown(field): text for field, text in mapping.items()}
    return Proposal(mapping=named, constants=constants, evidence=tuple(evidence), questions=tuple(questions))


def _by_name(read: Source) -> tuple[dict[str, str], list[str], list[str]]:
    """Fields whose column goes by a known name."""
    seen = recognise(read.columns)
    mapping: dict[str, str] = {}
    questions: list[str] = []
    evidence: list[str] = []
    fields = (*SYNONYMS, *(name for name in seen.used if name not in SYNONYMS))
    for field in fields:
        found = [seen.used[field]] if field in seen.used and field != "loss" else list(_candidates(read, field))
        if field == "loss" and len(found) > 1:
            found = [c for c in found if not _TRAIN.search(normalised(c))] or found
            held_out = [c for c in found if _HELD_OUT.search(normalised(c))]
            found = held_out or found
        if len(found) > 1 and field in _NEEDED:
            mapping[field] = found[0]
            questions.append(f"{_shown(field)}: it could be any of {', '.join(found)}")
        elif len(found) == 1:
            mapping[field] = found[0]
            evidence.append(f"{_shown(field)} is {found[0]} by its name")
    return mapping, questions, evidence


def _candidates(read: Source, field: str) -> Iterator[str]:
    names = {field, *SYNONYMS.get(field, ()), *_MORE.get(field, ()), *(a for a, f in ALIASES.items() if f == field)}

    def named(column: str) -> bool:
        name = normalised(column).strip("_")
        return (name in names or _UNIT.sub("", name).strip("_") in names) and _fits(read, column, field)

    found = [column for column in read.columns if named(column)]
    if not found and field not in ("run_id", "loss"):
        # Settings are often grouped: model.n_params, optim.lr.
        last = {column: re.split(r"[./]", column)[-1] for column in read.columns}
        found = [column for column in read.columns if last[column] != column and normalised(last[column]) in names]
        found = [column for column in found if _fits(read, column, field)]
    yield from found


def _fits(read: Source, column: str, field: str) -> bool:
    """Whether the column has values, and its first ones can be those of the field."""
    cells = [cell for row in read.rows if (cell := row.get(column)) not in (None, "")][:20]
    if field == "run_id":
        return len({str(row.get(column)) for row in read.rows}) == len(read.rows)
    if field not in BY_NAME or not cells:
        return bool(cells)
    for cell in cells:
        try:
            convert(cell, BY_NAME[field], rounded=True)
        except CellError:
            # A diverged run logs NaN, and an unfinished one its status.
            if field not in ("loss", "status", "bits"):
                return False
    return True


def _numbers(read: Source, column: str) -> list[float]:
    found = (number_or_none(row.get(column)) for row in read.rows)
    return [float(value) for value in found if value is not None and abs(value) < 1e300 and math.isfinite(value)]


def _range(read: Source, field: str, column: str, questions: list[str]) -> str:
    numbers = _numbers(read, column)
    if not numbers:
        questions.append(f"{_shown(field)}: {column} holds no numbers")
        return f"{column} holds no numbers"
    converted = conversion(column, field, numbers)
    low, high = _RANGES[field]
    said = f"{column} runs from {min(numbers):g} to {max(numbers):g}"
    if converted is not None:
        return f"{said}; {converted.reason}, so it is taken as {converted.formula}"
    if not low <= median(numbers) <= high:
        questions.append(f"{_shown(field)}: {said}, which is no usual {_shown(field)}; in which unit is it?")
    return said


def _sizes(read: Source, mapping: dict[str, str], questions: list[str]) -> None:
    """All parameters from those outside embeddings, where nothing else counts them or what does counts fewer."""
    rest, total = mapping.get("n_nonembedding"), mapping.get("n_total")
    if rest is None:
        return
    if total is not None:
        factor = scale(total) or 1.0
        pairs = ((number_or_none(row.get(total)), number_or_none(row.get(rest))) for row in read.rows)
        if all(n is None or part is None or n * factor >= part for n, part in pairs):
            return
        mapping["n_total"] = rest
        questions.append(f"n_params: {total} is less than {rest}, a nominal size; is {rest} all there is to count?")
        return
    mapping["n_total"] = rest
    questions.append(f"n_params: no column counts embeddings; is {rest} all there is to count?")


def _tokens(read: Source, mapping: dict[str, str], evidence: list[str], questions: list[str]) -> None:
    """Tokens from compute where nothing else gives them, and compute as a check where something does."""
    columns = [c for c in read.columns if _UNIT.sub("", normalised(c).strip("_")).strip("_") in _FLOPS]
    size = mapping.get("n_total")
    if len(columns) != 1 or size is None:
        return
    flops, factor = columns[0], scale(columns[0]) or 1.0
    if "d_total" in mapping:
        ratios = sorted(_ratios(read, flops, factor, size, mapping["d_total"]))
        if ratios:
            inside = sum(abs(ratio - 1) <= _CLOSE for ratio in ratios)
            evidence.append(
                f"{flops} is 6 N D within {100 * _CLOSE:g} % in {inside} of {len(ratios)} rows; its median is "
                f"{median(ratios):.3g} times that"
            )
    elif not {"d_fp", "d_qat"} <= mapping.keys():
        power = "" if factor == 1.0 else f" * {factor:g}"
        divisor = quote(size) if scale(size) is None else f"{quote(size)} * {scale(size):g}"
        mapping["d_total"] = f"{quote(flops)}{power} / (6 * {divisor})"
        questions.append(f"d_total: no column has tokens; does {flops} count 6 N D?")


def _ratios(read: Source, flops: str, factor: float, size: str, tokens: str) -> Iterator[float]:
    unit = factor / (6 * (scale(size) or 1.0) * (scale(tokens) or 1.0))
    for row in read.rows:
        c, n, d = (number_or_none(row.get(column)) for column in (flops, size, tokens))
        if c and n and d and min(c, n, d) > 0 and max(c, n, d) < 1e300:
            yield float(c) / float(n) / float(d) * unit


def _low_bits(read: Source, column: str) -> bool:
    for cell in dict.fromkeys(row.get(column) for row in read.rows if not isinstance(row.get(column), (list, dict))):
        try:
            if (convert(cell, BY_NAME["bits"]) or 16) < 16:
                return True
        except CellError:
            continue
    return False


def _shown(field: str) -> str:
    return "n_params" if field == "n_total" else field
