"""Digits follow uncertainty, on a terminal and on a page."""

from __future__ import annotations

import math

import pytest

from qatplan.wording.numbers import PAGE, TEXT, Interval


@pytest.mark.parametrize(
    ("value", "interval", "text", "page"),
    [
        (0.34781234, (0.331, 0.362), ("0.3478", "0.3310 to 0.3620"), None),
        (1.79546, (1.78344, 1.80679), ("1.7955", "1.7834 to 1.8068"), None),
        (492.08, (423.6, 589.3), ("492", "424 to 589"), None),
        (12345.6, (11000.0, 13000.0), ("12350", "11000 to 13000"), ("12,350", "11,000 to 13,000")),
        (3.0, None, ("3", ""), None),
        (2.0, (2.0, 2.0), ("2", "2 to 2"), None),
        (1.5, (1.0, float("inf")), ("1.5", "1 to unbounded"), None),
        (-0.5, (-0.6, -0.4), ("-0.500", "-0.600 to -0.400"), ("−0.500", "−0.600 to −0.400")),
        (3e7, (1e7, 4e7), ("3.00e+07", "1.00e+07 to 4.00e+07"), ("3.00 × 10⁷", "1.00 × 10⁷ to 4.00 × 10⁷")),
        (0.0, (0.0, 1e-9), ("0", "0 to 1.00e-09"), ("0", "0 to 1.00 × 10⁻⁹")),
    ],
)
def test_estimates(
    value: float, interval: Interval | None, text: tuple[str, str], page: tuple[str, str] | None
) -> None:
    assert TEXT.estimate(value, interval) == text
    assert PAGE.estimate(value, interval) == (page or text)


def test_an_amplitude_known_up_to_a_factor_has_two_digits() -> None:
    assert TEXT.estimate(73.7, (3.35, 14327.0), amplitude=True) == ("74", "3.4 to 14000")
    assert PAGE.estimate(73.7, (3.35, 14327.0), amplitude=True) == ("74", "3.4 to 14,000")
    assert TEXT.estimate(73.7, (60.0, 90.0), amplitude=True) == ("73.7", "60.0 to 90.0")


@pytest.mark.parametrize(
    ("value", "text", "page"),
    [
        (1234.5, "1200", "1,200"),
        (0.00012, "1.2e-04", "1.2 × 10⁻⁴"),
        (math.nan, "unknown", "unknown"),
        (math.inf, "unbounded", "unbounded"),
        (0.0, "0", "0"),
    ],
)
def test_plain_numbers(value: float, text: str, page: str) -> None:
    assert TEXT.plain(value, 2) == text
    assert PAGE.plain(value, 2) == page


def test_spans_and_shares() -> None:
    assert TEXT.span(1.0001, 1.0002) == "1"
    assert TEXT.span(1.0, 2.5) == "1 to 2.5"
    assert TEXT.percent(0.00251) == "0.25 %"
    assert PAGE.percent(0.00251) == "0.25\u202f%"
    assert TEXT.percent(1e-5) == TEXT.signed_percent(1e-5) == "under 0.01 %"
    assert (TEXT.signed_percent(0.02), PAGE.signed_percent(-0.02)) == ("+2 %", "−2\u202f%")
