"""Digits follow uncertainty."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (0.34781234, (0.331, 0.362), ("0.3478", "0.3310 to 0.3620")),
        (1.79546, (1.78344, 1.80679), ("1.7955", "1.7834 to 1.8068")),
        (492.08, (423.6, 589.3), ("492", "424 to 589")),
        (12345.6, (11000.0, 13000.0), ("12350", "11000 to 13000")),
        (2.5, (1e-4, 1e12), ("2.5", "0.0001 to 1e+12")),
        (3.0, None, ("3", "")),
        (2.0, (2.0, 2.0), ("2", "2 to 2")),
        (1.5, (1.0, float("inf")), ("1.5", "1 to unbounded")),
    ],
)
def test_value_with_interval(value: float, interval: tuple[float, float] | None, shown: tuple[str, str]) -> None:
    assert value_with_interval(value, interval) == shown


def test_percent() -> None:
    assert percent(0.00251) == "0.25 %"
