"""Standard deviations of log loss, between seeds and about the fitted law; and whether the law explains the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qatplan.fitting.rows import Rows, known
from qatplan.laws.flags import Flag
from qatplan.laws.inputs import Floats

_MAD = 1.4826  # standard deviation of a normal distribution per median absolute deviation


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """Run-to-run noise from runs that differ in the seed alone."""

    sd: float
    """Standard deviation of log loss, pooled."""
    freedom: int
    """Degrees of freedom: runs minus groups of runs that agree."""


def seed_noise(rows: Rows) -> SeedNoise | None:
    """Pool the variance of log loss over runs that agree in everything but the seed; None without such runs.

    `loss_se` plays no part: the validation set is common to all runs, so its error shifts them together.
    """
    x = rows.x
    groups: dict[tuple[object, ...], dict[float, float]] = {}
    for i in range(len(rows)):
        if np.isnan(rows.seed[i]):
            continue
        key = (*(known(v[i]) for v in (x.n, x.d_fp, x.d_qat, x.bits, x.group_size)), rows.method[i][:3])
        groups.setdefault(key, {}).setdefault(float(rows.seed[i]), float(np.log(rows.y[i])))
    replicated = [np.array(list(g.values())) for g in groups.values() if len(g) > 1]
    freedom = sum(len(g) - 1 for g in replicated)
    if not freedom:
        return None
    total = sum(float(np.sum((g - g.mean()) ** 2)) for g in replicated)
    return SeedNoise(sd=float(np.sqrt(total / freedom)), freedom=freedom)


def residual_deviation(residuals: Floats, parameters: int) -> float:
    """Robust standard deviation of log residuals, corrected for the fitted parameters."""
    freedom = max(len(residuals) - parameters, 1)
    return float(_MAD * np.median(np.abs(residuals)) * np.sqrt(len(residuals) / freedom))


def fit_quality(residuals: Floats, parameters: int, seeds: SeedNoise | None, huber: float) -> list[str]:
    """Flags about lack of fit and about the Huber delta."""
    sd = residual_deviation(residuals, parameters)
    flags = []
    if seeds is not None:
        # A rough F test at 1 %: the 99 % point of F(large, freedom) is about 1 + 3.3 sqrt(2 / freedom) + 6 / freedom.
        limit = 1 + 3.3 * np.sqrt(2 / seeds.freedom) + 6 / seeds.freedom
        ratio = sd / seeds.sd if seeds.sd > 0 else np.inf
        if ratio**2 > limit:
            flags.append(Flag.LACK_OF_FIT(sd=sd, ratio=ratio, seeds=seeds.sd, freedom=seeds.freedom))
    if sd > 0 and huber < 0.02 * sd:
        flags.append(Flag.HUBER(delta=huber, share=huber / sd, sd=sd))
    return flags
