"""What a fit flags: every sentence once, the weightiest first. A fit's file holds the sentences alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from functools import cache


class Flag(Enum):
    """Sentences with the places of their values, ordered by how much they matter to who relies on the fit."""

    UNTRUSTED = "not trustworthy ({status}): {message}"
    LOSS_LAW_FAILS = (
        "the loss law fitted to the same rows fails its certificate ({status}), so its optimal fractions mean nothing; "
        "--rows can choose rows that it describes, and --fix fixes its parameters"
    )
    LOSS_LAW_MISSING = "the loss law could not be fitted on the same rows: {error}"
    GONE = "{name} was driven to 0{why}"
    LARGEST = "{name} {end} its largest allowed value{why}"
    AT_BOUND = "{name} ended at its bound {value:.4g} (allowed {lower:g} to {upper:g})"
    LACK_OF_FIT = (
        "lack of fit: the residual standard deviation ({sd:.2g} of log loss) is {ratio:.2g} times that between runs "
        "that differ in the seed alone ({seeds:.2g}, {freedom} degrees of freedom)"
    )
    FEW_ROWS = "{rows} rows for {parameters} parameters: fewer than 3 rows each"
    MIXED = "bits {bits}: several quantizers are fitted as one; --rows can choose one of them"
    BLIND = "quantized rows are fitted by a law that does not see bits, because they were asked for"
    BITS_DIFFER = (
        "bit widths do not fall on one curve of S_total: mean errors of the law differ by {gap:.2f} in the fraction "
        "between bit widths"
    )
    MISSES = (
        "the refitted law misses measured optima by {mae:.2f} on average, published is {published[0]:.2f} to "
        "{published[1]:.2f}"
    )
    AT_ENDS = (
        "{ends} of {all} curves have their minimum at an end of the measured fractions; they are not fitted, which "
        "biases a where they are many"
    )
    SHORT = "{short} of {all} curves have too few fractions or a lower loss at 0 or 1; they are not fitted"
    FEW_TRUNKS = (
        "only {trunks} trunks: intervals hold for their sizes and trunks of the same kind, whose trunk effect "
        "({effect:.2g} of log loss) is inferred from the residuals"
    )
    FEW_TRUNKS_ALONE = "only {trunks} trunks, whose effect does not show in the residuals: intervals leave it out"
    TUNED_LESS = (
        "tuned less: {few:g} settings were tried a point at {sizes} parameters, {most:g} at others; losses there are "
        'upper bounds, as of an upper envelope; tune them as much, or --rows "{column} not in ({sizes})"'
    )
    TUNING_END = (
        "{ends} of {points} points have their best run at an end of the {name} tried, so a better one may lie beyond"
    )
    BENT = (
        "small {what} bend the fit: the largest is predicted from the others to {all:.2%}, without the {left_out} "
        'smallest to {error:.2%}; --rows "{column} >= {least:.0f}" leaves them out'
    )
    HUBER = (
        "huber delta {delta:g} is {share:.2g} of the residual standard deviation {sd:.2g}: nearly all rows count by "
        "their sign only; --huber {sd:.1g} would use them better"
    )
    UNFINISHED = "{unfinished} of {draws} draws did not converge tightly; intervals are rough"
    TREND = "the measured optimal fraction {how} with S_total (rank correlation {rank:.2f}, {curves} curves)"
    EFFECTS_UNSETTLED = "random effects: their variances and the fit did not come to rest, so intervals are rough"
    ENVELOPE = "where several learning rates were tried at one point, the curve is their lower envelope"

    def __call__(self, **values: object) -> str:
        """The sentence."""
        return self.value.format(**values)

    @staticmethod
    def of(sentence: str) -> Flag | None:
        """The flag that a sentence of a file is; None for one that this version does not make."""
        return next((flag for flag in Flag if _opening(flag).match(sentence)), None)


def by_weight(sentences: Iterable[str]) -> list[str]:
    """The sentences, the weightiest first; those that are no `Flag` stand at the end."""
    order = [*Flag, None]
    return sorted(sentences, key=lambda sentence: order.index(Flag.of(sentence)))


@cache
def _opening(flag: Flag) -> re.Pattern[str]:
    """What its sentences begin with, up to the first stop: versions word the rest differently."""
    opening = re.split(r"[:;,(]| is ", re.sub(r"\{[^}]*\}", "\0", flag.value))[0]
    return re.compile(re.escape(opening).replace("\0", ".*"))
