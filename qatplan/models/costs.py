"""What a plan costs to train: FLOPs by phase with attention, device time, and energy or money where rates are given."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from qatplan.errors import UsageError
from qatplan.models.layout import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Peak dense throughput of one accelerator, in FLOP/s by number format, and its power in watts."""

    name: str
    peak: dict[str, float]
    watts: float
    source: str


_NVIDIA: Final = "https://www.nvidia.com/en-us/data-center"
_B200: Final = "https://nvdam.widen.net/s/wwnsxrhm2w/blackwell-datasheet-3384703"
_L40S: Final = "https://resources.nvidia.com/en-us-l40s/l40s-datasheet-28413"
_MI300X: Final = "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"
# Dense peaks: vendors' sheets quote twice as much for 2:4 sparsity, which training does not use.
# Name, watts, peaks, source.
_DEVICES: Final[tuple[tuple[str, float, dict[str, float], str], ...]] = (
    ("a100", 400.0, {"bf16": 312e12, "tf32": 156e12, "fp32": 19.5e12}, f"{_NVIDIA}/a100/ (SXM, 80 GB)"),
    ("h100", 700.0, {"bf16": 989e12, "fp8": 1979e12, "tf32": 494.5e12, "fp32": 67e12}, f"{_NVIDIA}/h100/ (SXM)"),
    ("h100-pcie", 350.0, {"bf16": 756e12, "fp8": 1513e12, "tf32": 378e12, "fp32": 51e12}, f"{_NVIDIA}/h100/ (PCIe)"),
    ("h200", 700.0, {"bf16": 989e12, "fp8": 1979e12, "tf32": 494.5e12, "fp32": 67e12}, f"{_NVIDIA}/h200/ (SXM)"),
    ("b200", 1000.0, {"bf16": 2250e12, "fp8": 4500e12, "tf32": 1125e12}, _B200),
    ("l40s", 350.0, {"bf16": 362e12, "fp8": 733e12, "tf32": 183e12, "fp32": 91.6e12}, _L40S),
    ("l4", 72.0, {"bf16": 121e12, "fp8": 242e12, "tf32": 60e12, "fp32": 30.3e12}, f"{_NVIDIA}/l4/"),
    ("mi300x", 750.0, {"bf16": 1307e12, "fp8": 2615e12, "tf32": 653.7e12, "fp32": 163.4e12}, _MI300X),
)
DEVICES: Final = {name: Device(name=name, watts=watts, peak=peak, source=url) for name, watts, peak, url in _DEVICES}

DEFAULT_DEVICE: Final = "h100"
DEFAULT_UTILISATION: Final = 0.4
DEFAULT_SEQUENCE: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one training run; FLOPs, device hours, and money and energy where known."""

    flops_fp: float
    flops_qat: float
    attention_share: float
    """Share of the FLOPs spent on attention scores, which 6ND leaves out."""
    gpu_hours: float
    energy_kwh: float
    """At the device's rated power, cooling and hosts not counted."""
    money: float | None

    @property
    def flops(self) -> float:
        """FLOPs of both phases."""
        return self.flops_fp + self.flops_qat

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"flops": self.flops, **asdict(self)}


def device(name: str) -> Device:
    """The device of that name (case does not matter). Raises UsageError with the names there are."""
    found = DEVICES.get(name.strip().lower())
    if found is None:
        raise UsageError(f"device {name!r} is not known; it must be one of {', '.join(DEVICES)}.")
    return found


FLOPS_PER_WEIGHT: Final = 6.0
"""Training FLOPs per token and weight: 2 forward, twice as many backward; arXiv 2001.08361, section 2.1."""


def flops_per_token(layout: Layout, *, sequence: int = DEFAULT_SEQUENCE) -> tuple[float, float]:
    """Training FLOPs per token: (matrix multiplications, attention scores).

    Forward 2 per weight that a token passes through, the head included; attention 4 * heads * head size per layer and
    position seen, and causal positions see half the sequence on average, or the window of a layer that has one; the
    backward pass costs twice the forward. Recomputation is not counted. Raises UsageError for a sequence of no tokens.
    """
    if sequence < 1:
        raise UsageError(f"sequence is {sequence}, but it must be at least 1 token.")
    seen = (sequence + 1) / 2.0
    window = min(layout.window, float(sequence))
    # The first `window` positions see (window + 1) / 2 tokens on average, all later ones the whole window.
    seen_local = window * (1.0 - (window - 1.0) / (2.0 * sequence))
    attention = 4.0 * (layout.attention_width * seen + layout.attention_width_local * seen_local)
    return FLOPS_PER_WEIGHT * layout.active_matrix_weights, 3.0 * attention


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained: what its cost depends on.

    Raises UsageError for a device that is not known, and for impossible numbers.
    """

    sequence: int = DEFAULT_SEQUENCE
    """Tokens per training sequence."""
    device: str = DEFAULT_DEVICE
    dtype: str = "bf16"
    mfu: float = DEFAULT_UTILISATION
    """Share of the device's peak that training reaches (model FLOPs utilisation)."""
    qat_slowdown: float | None = None
    """Time of a QAT token over that of a full-precision one; None where it is to be measured, else 1."""
    price_per_hour: float | None = None
    """Money per device hour."""

    def __post_init__(self) -> None:
        hardware, slowdown, price = self.hardware, self.slowdown, self.price_per_hour
        if self.sequence < 1:
            raise UsageError(f"sequence is {self.sequence}, but it must be at least 1.")
        if self.dtype not in hardware.peak:
            raise UsageError(f"{hardware.name} has no peak for {self.dtype!r}; known: {', '.join(hardware.peak)}.")
        if not 0 < self.mfu <= 1:
            raise UsageError(f"mfu is {self.mfu:g}, but it must lie between 0 and 1.")
        if not (math.isfinite(slowdown) and slowdown >= 0.1):
            raise UsageError(f"qat slowdown is {slowdown:g}, but it must be a factor of at least 0.1.")
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise UsageError(f"price per hour is {price:g}, but it must be 0 or more.")

    @property
    def hardware(self) -> Device:
        """The device by its name."""
        return device(self.device)

    @property
    def slowdown(self) -> float:
        """Time of a QAT token over that of a full-precision one."""
        return 1.0 if self.qat_slowdown is None else self.qat_slowdown

    @property
    def flops_per_hour(self) -> float:
        """FLOPs of training worked off in one device hour."""
        return self.hardware.peak[self.dtype] * self.mfu * 3600.0

    def flops_per_token(self, layout: Layout) -> float:
        """Training FLOPs per token, attention included."""
        return sum(flops_per_token(layout, sequence=self.sequence))

    def cost(self, layout: Layout, *, d_fp: float, d_qat: float) -> Cost:
        """Cost of training `d_fp` tokens in full precision, then `d_qat` with quantized weights.

        The FLOPs of a QAT token are those of any token (rounding is not a multiplication); what QAT costs beyond them
        is time, the measured `slowdown`.
        """
        matrices, attention = flops_per_token(layout, sequence=self.sequence)
        per_token = matrices + attention
        hours = per_token * (d_fp + self.slowdown * d_qat) / self.flops_per_hour
        return Cost(
            flops_fp=per_token * d_fp,
            flops_qat=per_token * d_qat,
            attention_share=attention / per_token,
            gpu_hours=hours,
            energy_kwh=hours * self.hardware.watts / 1000.0,
            money=None if self.price_per_hour is None else hours * self.price_per_hour,
        )
