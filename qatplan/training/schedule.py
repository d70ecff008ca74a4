"""The learning rate of each step: warmup-stable-decay trunks, cooldowns, and QAT phases. Imports no torch.

Schedules after Dremov et al., arXiv 2509.22935 (classic and fused); the exact shapes of re-warmup and decay are not
public: linear here, with lengths that are parameters of the sweep.
"""

from __future__ import annotations

from qatplan.training.segment import SegmentConfig


def learning_rate_at(config: SegmentConfig, step: int) -> float:
    """The weights' learning rate at `step`, which lies in [config.start, config.end).

    Every segment shares the trunk's linear warmup. A trunk is constant after it; a cooldown falls linearly to zero at
    its end; a QAT phase climbs over its re-warmup, holds, and falls linearly to zero from `decay_start` on.
    """
    rate = config.learning_rate * _climb(step, config.warmup_steps)
    if config.kind == "cooldown":
        return rate * _fall(step, config.start, config.end)
    if config.switch is not None:
        climb = _climb(step - config.start, config.switch.rewarmup_steps)
        fall = _fall(step, config.switch.decay_start, config.end)
        return rate * config.switch.learning_rate * min(climb, fall)
    return rate


def _climb(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / steps) if steps > 0 else 1.0


def _fall(step: int, start: int, end: int) -> float:
    return min(1.0, (end - step) / (end - start)) if end > start else 1.0
