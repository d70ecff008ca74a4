"""Damaged and odd files through every command: no fault of ours, no hang, no file of the user's changed.

A seeded part of `benchmarks/fuzz.py`. QATPLAN_FUZZ_SECONDS makes it longer (60 is the part that a release needs).
"""

from __future__ import annotations

import os
import random

import pytest
from support.benchmarks import load

fuzz = load("fuzz")
SECONDS = float(os.environ.get("QATPLAN_FUZZ_SECONDS", "8"))


@pytest.mark.parametrize("number", [0])
def test_no_file_is_too_odd(number: int) -> None:
    counts = fuzz.campaign(20_000, seconds=SECONDS, number=number)
    assert counts.problems == []
    assert counts.cases > 0
    assert counts.codes.keys() <= {"0", "2", "3", "4", "5"}


def test_what_goes_wrong_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with a fault, one that hangs and one that writes elsewhere: each is found."""
    monkeypatch.setattr(fuzz, "LIMIT_SECONDS", 1)
    with fuzz.workplace() as place:

        def faulty(words: list[str]) -> int:
            raise TypeError

        def hanging(words: list[str]) -> int:
            while True:
                pass

        def writing(words: list[str]) -> int:
            (place._folder / "fits.json").write_bytes(b"")
            return 0

        for command in (faulty, hanging, writing, lambda words: 1, lambda words: 2, lambda words: 7):
            monkeypatch.setattr(fuzz, "command", command)
            place.case("config.json", b"{}", random.Random(0))
    found = [which for which, _ in place.counts.problems]
    assert found[:3] == ["traceback", "hang", "changed"]
    assert [which for which in found[3:] if which != "changed"] == ["traceback", "no sentence", "exit code"]
