"""What commands print: one JSON object or plain text on stdout, remarks on stderr."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from qatplan.shown import shown, shown_json

if TYPE_CHECKING:
    from qatplan.wording.sections import Section


def emit(obj: Any, text: str, as_json: bool) -> None:
    """Print `obj` as one JSON object, or `text` for people, on stdout and nothing else.

    In JSON, NaN and infinities become null, floats keep their full repr.
    """
    if as_json:
        _print(shown_json(json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False)))
    else:
        _print(shown(text))


def _print(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def show(obj: Any, sections: Callable[[], Iterable[Section]], as_json: bool) -> None:
    """Print `obj` as one JSON object, or its sections for people: as wide as the terminal, marked where it has colour.

    `sections` is called only where they are shown.
    """
    if as_json:
        emit(obj, "", True)
        return
    from qatplan.wording.text import WIDTH, to_text

    terminal = sys.stdout.isatty()
    width = _columns(sys.stdout) if terminal else WIDTH
    coloured = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    bold = (lambda text: f"\0[{text}\0]") if coloured else str
    text = shown(to_text(sections(), width, title=bold, strong=bold))
    # Whatever steers a terminal is escaped by now, marks included: those for bold alone are put back.
    _print(text.replace(r"\x00[", "\x1b[1m").replace(r"\x00]", "\x1b[0m") if coloured else text)


def note(*messages: str) -> None:
    """Remarks for the person at the terminal, on stderr: wrapped to its width, or each on its line elsewhere."""
    lines = [line for message in messages for line in shown(message).split("\n")]
    if sys.stderr.isatty():
        from qatplan.wording.text import wrapped

        width = _columns(sys.stderr)
        # Commands to copy, and whatever is laid out already, stay as they are.
        lines = [part for line in lines for part in ([line] if line[:1] in " $" else wrapped(line, width))]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def _columns(terminal: IO[str]) -> int:
    """The width of a terminal, within what can be read."""
    told = os.environ.get("COLUMNS", "")
    try:
        seen = int(told) if told.isdecimal() else os.get_terminal_size(terminal.fileno()).columns
    except (OSError, ValueError):
        seen = 0
    return max(40, min(seen or 80, 120))


def plain(obj: Any) -> Any:
    """`obj` in terms of JSON: dataclasses, named tuples, mappings, sequences, arrays, enums, paths and numbers.

    Raises TypeError for anything else: an object that nobody taught to be shown must not appear as its repr.
    """
    if isinstance(obj, enum.Enum):
        return plain(obj.value)
    if obj is None or isinstance(obj, (str, bool)):
        return obj
    if isinstance(obj, numbers.Integral):
        return int(obj)
    if isinstance(obj, numbers.Real):
        value = float(obj)
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {field.name: plain(getattr(obj, field.name)) for field in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        return {str(key): plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [plain(value) for value in (sorted(obj) if isinstance(obj, (set, frozenset)) else obj)]
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    if hasattr(obj, "tolist"):  # an array or a number of numpy, which is not loaded here: it would slow every command
        return plain(obj.tolist())
    raise TypeError(f"{type(obj).__name__} cannot be shown as JSON.")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Plain text columns, two spaces apart: numbers to the right, words to the left, None as an empty cell."""
    from qatplan.wording.sections import Table
    from qatplan.wording.text import table_lines

    cells = tuple(tuple(None if value is None else str(value) for value in row) for row in rows)
    return "\n".join(table_lines(Table(headers=tuple(headers), rows=cells)))
