"""Counts, bytes and durations: what is written is what is read, and neither passes for another."""

from __future__ import annotations

import contextlib
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qatplan import units
from qatplan.errors import UsageError

COUNTS = {"1.5B": 1.5e9, "300M": 3e8, "2e9": 2e9, "300B tokens": 3e11, "7b params": 7e9, "4k": 4e3, "1.1T": 1.1e12}
BYTES = {
    "4GiB": 2**32,
    "3.5GB": 3_500_000_000,
    "500MiB": 500 * 2**20,
    "500 MiB": 500 * 2**20,
    "8kb": 8000,
    "1_024": 1024,
    "12 bytes": 12,
    "1e9": 10**9,
    "1.3GiB": 1395864371,
}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(("text", "value"), COUNTS.items())
def test_counts(text: str, value: float) -> None:
    assert units.parse_count(text) == value


@pytest.mark.parametrize(("text", "value"), BYTES.items())
def test_bytes(text: str, value: int) -> None:
    parsed = units.parse_bytes(text)
    assert parsed == value
    assert isinstance(parsed, int)


def test_numbers_of_a_specification_are_taken_as_they_are() -> None:
    assert units.parse_count(300_000_000) == 3e8
    assert units.parse_bytes(2**40) == 2**40
    assert units.parse_bytes(1e9) == 10**9


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (units.parse_count, "4GB", "number of bytes where a count is expected"),
        (units.parse_count, "4GiB", "number of bytes where a count is expected"),
        (units.parse_count, "4G", "write 4B for billions"),
        (units.parse_count, "-1", "finite and not negative"),
        (units.parse_count, math.nan, "finite and not negative"),
        (units.parse_count, "1e400", "out of range"),
        (units.parse_count, "1" * 301, "1...' is not a count such as 300M, 1.5B or 2e9: it is out of range"),
        (units.parse_count, "1" * 5000, "out of range"),
        (units.parse_count, "1" * 299 + "e30", "finite and not negative"),
        (units.parse_bytes, "." + "1" * 5000 + "GB", "out of range"),
        (units.parse_count, "1,5B", "has a comma"),
        (units.parse_count, "", "not a count"),
        (units.parse_count, "many", "not a count"),
        (units.parse_count, "3Q", "none of K, M, B, T"),
        (units.parse_count, True, "not a count"),
        (units.parse_bytes, "1.5B", "does not say which bytes"),
        (units.parse_bytes, "300M", "does not say which bytes"),
        (units.parse_bytes, "4Gb", "reads as bits"),
        (units.parse_bytes, "4Gib", "reads as bits"),
        (units.parse_bytes, "-4GiB", "is negative"),
        (units.parse_bytes, -1, "not negative"),
        (units.parse_bytes, "0.5", "fraction of a byte"),
        (units.parse_bytes, "3 parsecs", "is none of KB"),
        (units.parse_bytes, math.inf, "finite"),
    ],
)
def test_refusals_are_one_sentence(parse: object, text: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)  # type: ignore[operator]
    sentence = str(caught.value)
    assert message in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5e9, "1.5B"),
        (999_999, "1M"),
        (999, "999"),
        (0, "0"),
        (1234, "1.23K"),
        (3e14, "300T"),
        (1e22, "1e+22"),
        (0.5, "0.5"),
    ],
)
def test_shown_counts(value: float, shown: str) -> None:
    assert units.format_count(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2**32, "4 GiB"), (1023, "1023 bytes"), (1020 * 2**20, "1020 MiB"), (2**20 - 1, "1 MiB"), (0, "0 bytes")],
)
def test_shown_bytes(value: float, shown: str) -> None:
    assert units.format_bytes(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (12.5, "12.5s"),
        (59.99, "1m00s"),
        (200, "3m20s"),
        (3599.9, "1h00m"),
        (7500, "2h05m"),
        (86399, "1d0h"),
        (273600, "3d4h"),
    ],
)
def test_shown_durations(value: float, shown: str) -> None:
    assert units.format_duration(value) == shown


@pytest.mark.parametrize("show", [units.format_count, units.format_bytes, units.format_duration])
def test_what_is_not_finite_is_not_shown(show: object) -> None:
    with pytest.raises(UsageError):
        show(math.nan)  # type: ignore[operator]


def test_a_number_is_shown_with_one_digit_at_least() -> None:
    with pytest.raises(UsageError, match="digits is 0; it must be 1 or more"):
        units.format_count(5.0, digits=0)


@given(st.floats(min_value=1e-3, max_value=1e25), st.integers(min_value=1, max_value=15))
def test_a_shown_count_reads_back_to_its_digits(value: float, digits: int) -> None:
    back = units.parse_count(units.format_count(value, digits=digits))
    assert abs(back - value) <= 0.501 * 10.0 ** (1 - digits) * value


@given(st.integers(min_value=0, max_value=2**60), st.integers(min_value=2, max_value=15))
def test_shown_bytes_read_back_to_their_digits(value: int, digits: int) -> None:
    back = units.parse_bytes(units.format_bytes(value, digits=digits))
    assert abs(back - value) <= 0.501 * 10.0 ** (1 - digits) * value + 1


@given(st.floats(min_value=0.001, max_value=1e9))
def test_a_shown_duration_reads_back_to_its_second_unit(value: float) -> None:
    shown = re.findall(r"([\d.]+)(ms|s|m|h|d)", units.format_duration(value))
    back = sum(float(number) * SECONDS[unit] for number, unit in shown)
    assert back == pytest.approx(value, rel=0.0215)


@given(st.integers(min_value=1, max_value=10**15))
def test_whole_counts_are_exact(value: int) -> None:
    assert units.parse_count(str(value)) == value
    assert units.parse_count(f"{value}e-3K") == pytest.approx(value, rel=1e-15)


NUMBERS = st.integers(min_value=0, max_value=10**6).map(str) | st.decimals(0, 1000, places=2).map(str)


@given(NUMBERS, st.sampled_from(["K", "M", "B", "T", "k", "m", "b", "t"]), st.sampled_from(["", " "]))
def test_a_count_is_never_read_as_bytes(number: str, suffix: str, gap: str) -> None:
    assert units.parse_count(number + gap + suffix) >= 0
    with pytest.raises(UsageError):
        units.parse_bytes(number + gap + suffix)


@given(NUMBERS, st.sampled_from(["KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB", "gb", "bytes"]))
def test_bytes_are_never_read_as_a_count(number: str, suffix: str) -> None:
    if suffix != "bytes":
        assert units.parse_bytes(number + " " + suffix) >= 0
    with pytest.raises(UsageError):
        units.parse_count(number + " " + suffix)


@settings(max_examples=50)
@given(st.text(max_size=12))
def test_any_text_is_a_number_or_a_usage_error(text: str) -> None:
    for parse in (units.parse_count, units.parse_bytes):
        with contextlib.suppress(UsageError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2.1", (2.1, None)),
        ("2.1 nats/token", (2.1, "nats/token")),
        ("2.1nats", (2.1, "nats/token")),
        ("0.9 bits per byte", (0.9, "bits/byte")),
        ("0.9bpb", (0.9, "bits/byte")),
    ],
)
def test_a_loss_is_read_with_its_unit(text: str, read: tuple[float, str | None]) -> None:
    assert units.parse_loss(text) == read


@pytest.mark.parametrize("text", ["2.1 ppl", "low", "", "2.1 bits/token"])
def test_another_unit_of_loss_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="loss"):
        units.parse_loss(text)


def test_bits_per_byte_of_text_by_bytes_are_nats_over_ln_2() -> None:
    """A uniform guess over 256 bytes costs 8 bits a byte."""
    assert units.bits_per_byte(math.log(256), 1.0) == pytest.approx(8.0)
    assert units.bits_per_byte(math.log(256), 4.0) == pytest.approx(2.0)
