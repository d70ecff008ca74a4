"""Values with their first and second derivatives in a few variables: forward-mode automatic differentiation.

A derivative that is 0 whatever the numbers are is not kept, so a jet also tells of its value in which variables it is
linear: it has no second derivative in them. Values are arrays that broadcast with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from qatplan.laws.inputs import Floats

K = TypeVar("K")


@dataclass(frozen=True)
class Jet:
    """A value, its derivatives by variable, and its second ones by pairs of variables, the smaller first."""

    value: Floats
    first: Mapping[int, Floats] = field(default_factory=dict)
    second: Mapping[tuple[int, int], Floats] = field(default_factory=dict)


def variable(value: Floats, number: int) -> Jet:
    """The variable of a number itself."""
    return Jet(value, {number: np.ones(1)})


def add(a: Jet, b: Jet) -> Jet:
    """a + b."""
    return Jet(a.value + b.value, _joined(a.first, b.first), _joined(a.second, b.second))


def scale(a: Jet, factor: Floats) -> Jet:
    """A jet times what has no derivative."""
    return Jet(
        a.value * factor, {i: d * factor for i, d in a.first.items()}, {k: d * factor for k, d in a.second.items()}
    )


def subtract(a: Jet, b: Jet) -> Jet:
    """a - b."""
    return add(a, scale(b, np.array(-1.0)))


def multiply(a: Jet, b: Jet) -> Jet:
    """a * b."""
    if not b.first:
        return scale(a, b.value)
    if not a.first:
        return scale(b, a.value)
    first = _joined({i: d * b.value for i, d in a.first.items()}, {i: d * a.value for i, d in b.first.items()})
    second = _joined({k: d * b.value for k, d in a.second.items()}, {k: d * a.value for k, d in b.second.items()})
    for i, left in a.first.items():
        for j, right in b.first.items():
            key, cross = (min(i, j), max(i, j)), left * right * (2.0 if i == j else 1.0)
            second[key] = second[key] + cross if key in second else cross
    return Jet(a.value * b.value, first, second)


def divide(a: Jet, b: Jet) -> Jet:
    """a / b."""
    if b.first:
        inverse = 1.0 / b.value
        return multiply(a, _chained(b, inverse, -(inverse**2), lambda: 2.0 * inverse**3))
    return Jet(
        a.value / b.value, {i: d / b.value for i, d in a.first.items()}, {k: d / b.value for k, d in a.second.items()}
    )


def power(a: Jet, b: Jet) -> Jet:
    """a ** b; 0 ** b has no derivative in b."""
    if a.first and b.first:
        return exp(multiply(b, log(a)))
    value = a.value**b.value
    if a.first:
        c = b.value
        return _chained(a, value, c * a.value ** (c - 1.0), lambda: c * (c - 1.0) * a.value ** (c - 2.0))
    if b.first:
        logs = np.where(a.value == 0, 0.0, np.log(a.value))
        return _chained(b, value, logs * value, lambda: logs**2 * value)
    return Jet(value)


def exp(a: Jet) -> Jet:
    """e ** a."""
    value = np.exp(a.value)
    return _chained(a, value, value, lambda: value)


def log(a: Jet) -> Jet:
    """The natural logarithm."""
    if not a.first:
        return Jet(np.log(a.value))
    slope = 1.0 / a.value
    return _chained(a, np.log(a.value), slope, lambda: -(slope**2))


def where(mask: Floats, a: Jet) -> Jet:
    """The jet where `mask` is not 0; elsewhere 0, even where it has no value."""

    def kept(values: Floats) -> Floats:
        return np.where(mask != 0, values, 0.0)

    return Jet(kept(a.value), {i: kept(d) for i, d in a.first.items()}, {k: kept(d) for k, d in a.second.items()})


def _chained(a: Jet, value: Floats, slope: Floats, bend: Callable[[], Floats]) -> Jet:
    """A function of a, by its value and derivatives at a."""
    if not a.first:
        return Jet(value)
    curvature = bend()
    second = {k: slope * d for k, d in a.second.items()}
    for i, left in a.first.items():
        for j, right in a.first.items():
            if i <= j:
                cross = curvature * left * right
                second[i, j] = second[i, j] + cross if (i, j) in second else cross
    return Jet(value, {i: slope * d for i, d in a.first.items()}, second)


def _joined(a: Mapping[K, Floats], b: Mapping[K, Floats]) -> dict[K, Floats]:
    made = dict(a)
    for key, value in b.items():
        made[key] = made[key] + value if key in made else value
    return made
