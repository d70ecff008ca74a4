"""The optimizers at a given rate, against torch's own used plainly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from qatplan.training.optimizer import MOMENTUM, SGD_RATE, Optimizer

DECAY, RATE, STEPS = 0.1, 0.02, 6
PLAIN: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda matrices: torch.optim.AdamW(matrices, lr=RATE, betas=(0.9, 0.95), weight_decay=DECAY, fused=True),
    "sgd": lambda matrices: torch.optim.SGD(matrices, lr=10 * RATE, momentum=0.9, weight_decay=DECAY * (1 - 0.9) / 10),
    "muon": lambda matrices: torch.optim.Muon(matrices, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
}


def weights() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"embedding": (32, 8), "down": (8, 24), "norm": (8,)}
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def gradients(parameters: dict[str, nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("separate", [False, True])
def test_a_constant_rate_is_the_plain_optimizer_at_it(name: str, separate: bool) -> None:
    ours, theirs = weights(), weights()
    own = ["down"] if name == "muon" else ["embedding", "down"]
    optimizer = Optimizer(name, ours, {}, weight_decay=DECAY, separate=separate)
    assert optimizer.owned == own
    others = [theirs[key] for key in ("embedding",) if key not in own]
    plain = [
        PLAIN[name]([theirs[key] for key in own]),
        torch.optim.AdamW(
            [{"params": others, "weight_decay": DECAY}, {"params": [theirs["norm"]], "weight_decay": 0.0}]
            if others
            else [{"params": [theirs["norm"]], "weight_decay": 0.0}],
            lr=RATE, betas=(0.9, 0.95), fused=True,
        ),
    ]  # fmt: skip
    for step in range(STEPS):
        gradients(ours, step)
        gradients(theirs, step)
        # Half the rate as the schedule's, the whole as that of the matrices and, named, of the norm.
        optimizer.set_rates(RATE / 2, {"embedding": RATE, "down": RATE, "norm": RATE})
        optimizer.step()
        for part in plain:
            part.step()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key
        assert ours[key].grad is None
    assert (SGD_RATE, MOMENTUM) == (10, 0.9)


@pytest.mark.parametrize("name", PLAIN)
def test_every_optimizer_takes_the_same_decay(name: str) -> None:
    parameters = weights()
    before = parameters["down"].detach().clone()
    optimizer = Optimizer(name, parameters, {}, weight_decay=DECAY)
    steps = 400
    for _ in range(steps):
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.set_rates(1e-3, {})
        optimizer.step()
    expected = before * (1 - 1e-3 * DECAY) ** steps
    # Momentum takes a while to pass SGD's decay on.
    torch.testing.assert_close(parameters["down"].detach(), expected, rtol=2e-3, atol=0.0)
    assert torch.equal(parameters["norm"].detach(), weights()["norm"].detach()), "norms do not decay"


@pytest.mark.parametrize("name", PLAIN)
def test_moments_are_restored_bit_for_bit(name: str) -> None:
    whole, first = weights(), weights()
    straight = Optimizer(name, whole, {}, weight_decay=DECAY)
    before = Optimizer(name, first, {}, weight_decay=DECAY)
    for step in range(STEPS):
        gradients(whole, step)
        straight.set_rates(RATE, {})
        straight.step()
        if step < 3:
            gradients(first, step)
            before.set_rates(RATE, {})
            before.step()
    second = {key: nn.Parameter(value.detach().clone()) for key, value in first.items()}
    after = Optimizer(name, second, {}, weight_decay=DECAY)
    after.restore(before.moments(), without=[])
    for step in range(3, STEPS):
        gradients(second, step)
        after.set_rates(RATE, {})
        after.step()
    assert all(torch.equal(second[key], whole[key]) for key in whole)
    fresh = Optimizer(name, weights(), {}, weight_decay=DECAY)
    fresh.restore(before.moments(), without=fresh.owned)
    assert not set(fresh.moments()) & set(fresh.owned)
    assert "norm" in fresh.moments()
