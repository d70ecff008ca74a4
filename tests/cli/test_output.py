"""What commands print."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import pty
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import typer

from qatplan.cli import options
from qatplan.cli.app import main
from qatplan.cli.output import emit, note, plain, table


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Thing:
    loss: float
    where: Path


def test_json_is_one_object_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    note("a remark")
    emit({"a": [1, 2.5, math.nan, math.inf], "b": Thing(0.1, Path("x/y"))}, "for people", True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"a": [1, 2.5, None, None], "b": {"loss": 0.1, "where": "x/y"}}
    assert printed.err == "a remark\n"


def test_sentences_are_wrapped_for_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["fit", "runs.parquet", "--out", "fit.json", "--fix", "a" * 60 + " and nothing that is a name and a value"]
    assert main(asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) > 100
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 50))
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(asked) == 2
        note("\nTrain the runs:\n$ qatplan sweep sweep.toml --out somewhere --device cpu --workers 1")
    said = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert " ".join(said[:-3]) == line
    assert all(len(part) <= 50 or part.startswith("'aaa") for part in said[:-3])
    assert said[-3:] == [
        "", "Train the runs:", "$ qatplan sweep sweep.toml --out somewhere --device cpu --workers 1"
    ]  # fmt: skip


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": 1}, "for people\n", False)
    assert capsys.readouterr().out == "for people\n"


def test_numpy_values_become_plain() -> None:
    given = {
        "x": np.float32(0.5),
        "n": np.int64(3),
        "v": np.array([[1.0, np.nan]]),
        "t": np.bool_(True),
        "e": Colour.RED,
    }
    assert plain(given) == {"x": 0.5, "n": 3, "v": [[1.0, None]], "t": True, "e": "red"}
    assert plain({"s": {2, 1}, "t": (1, None)}) == {"s": [1, 2], "t": [1, None]}


def test_floats_keep_every_digit() -> None:
    value = 0.1 + 0.2
    assert json.loads(json.dumps(plain(np.float64(value)))) == value


def test_unknown_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="object cannot be shown"):
        plain({"a": object()})


def test_table_aligns_numbers_right_and_words_left() -> None:
    shown = table(["name", "loss"], [["a", 1.25], ["long name", -10], ["", None]])
    assert shown.rstrip("\n").splitlines() == [
        "name       loss",
        "---------  ----",
        "a          1.25",
        "long name   -10",
    ]


def test_table_refuses_ragged_rows() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 headers"):
        table(["a", "b"], [["x"]])


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (options.count_parser, "1.5B", 1.5e9),
        (options.bytes_parser, "4GiB", 2**32),
        (options.bits_parser, "2,3,1.58", (2.0, 3.0, 1.58)),
        (options.names_parser, "a, b", ("a", "b")),
    ],
)
def test_option_parsers(parse: object, text: str, expected: object) -> None:
    assert parse(text) == expected  # type: ignore[operator]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (options.count_parser, "4GB"),
        (options.count_parser, "0"),
        (options.bytes_parser, "1.5B"),
        (options.bits_parser, "2,17"),
        (options.bits_parser, "two"),
        (options.bits_parser, "nan"),
        (options.names_parser, "a,,b"),
    ],
)
def test_option_parsers_refuse_as_the_shell_expects(parse: object, text: str) -> None:
    with pytest.raises(typer.BadParameter, match=text.split(",")[0]):
        parse(text)  # type: ignore[operator]
