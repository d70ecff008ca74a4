"""One training segment as data: everything that decides its numbers, and the digest that names it. Imports no torch.

A run is a path of segments: pieces of a full-precision trunk at constant learning rate, a cooldown, a QAT phase, or a
rounding after training. Each is a pure function of this configuration, its parent's result and the corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

from qatplan.quant import registry
from qatplan.quant.registry import ActivationGranularity, GroupSize
from qatplan.runs.schema import CONTROL_BITS
from qatplan.training.recipes import RECIPES
from qatplan.training.shape import Shape

NUMERICS = "1"
"""The version of the code as far as it decides losses: raised when a change alters any number of every run. What alters
runs with one quantizer alone is that quantizer's (`qatplan.quant.registry.QuantizerEntry.numerics`)."""

Kind = Literal["trunk", "cooldown", "qat", "round"]
OptimizerState = Literal["kept", "reset"]
ACTIVATION_GRANULARITIES: tuple[ActivationGranularity, ...] = ("tensor", "token")
OPTIMIZERS = ("adamw", "sgd", "muon")
PRECISIONS = ("float32", "bfloat16")
UPDATES = ("learning-rate", "transition-rate", "transition-rate-by-layer")


@dataclass(frozen=True, kw_only=True)
class Activation:
    """How the inputs of the linear layers are quantized; the head's input is not."""

    quantizer: str
    bits: float
    granularity: ActivationGranularity


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a `qat` or `round` segment quantizes."""

    quantizer: str
    bits: float
    group_size: GroupSize
    embedding_bits: float
    """Bits of the tied embedding and head."""
    activation: Activation | None = None
    """None leaves activations in full precision."""
    post_training: str = "rtn"
    """How a `round` segment finds its codes."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """The second phase of a run: QAT, or full precision where the segment has no `Quantization`."""

    learning_rate: float
    """Peak learning rate relative to the trunk's."""
    scale_learning_rate: float
    """Learning rate of the scales relative to that of the weights."""
    optimizer_state: OptimizerState
    """Whether AdamW's moments are carried over the switch."""
    rewarmup_steps: int
    decay_start: int
    """Step at which the learning rate starts to fall linearly to zero at the segment's end."""
    optimizer: str = "adamw"
    """What updates the matrices in this phase."""
    update: str = "learning-rate"
    """What sets the size of a step: the learning rate, or the rate at which codes change."""
    transition_rate: float | None = None
    """Target share of the weights that change code in the phase's first step, over sqrt(bits); None where the learning
    rate sets the size of a step."""


def numerics(quantizers: Iterable[str]) -> str:
    """The version of the code as far as it decides the losses of runs with these quantizers."""
    versions = {name: registry.entry(name).numerics for name in quantizers}
    return "".join([NUMERICS, *(f", {name} {version}" for name, version in sorted(versions.items()) if version > 1)])


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """Steps `start` to `end` of one training; steps count from the untrained model."""

    kind: Kind
    shape: Shape
    seed: int
    """Seeds initialisation and data order."""
    corpus: str
    """Digest of the corpus."""
    start: int
    end: int
    sequences: int
    """Sequences per step."""
    sequence: int
    """Tokens per sequence."""
    learning_rate: float
    """The trunk's constant learning rate."""
    warmup_steps: int
    weight_decay: float
    backend: Literal["eager", "compiled"]
    device: str
    """cpu or cuda."""
    validation_tokens: int
    evaluate: bool
    """Whether the segment's end is a run: then it is evaluated on the validation set."""
    quantization: Quantization | None = None
    switch: Switch | None = None
    precision: str = "float32"
    """In which the matrices are multiplied (`qatplan.training.runtime`)."""

    @property
    def tokens(self) -> int:
        """Tokens trained in this segment."""
        return (self.end - self.start) * self.sequences * self.sequence

    @property
    def end_tokens(self) -> int:
        """Tokens seen from the untrained model to the end of this segment."""
        return self.end * self.sequences * self.sequence

    def learning_rate_at(self, step: int) -> float:
        """The weights' learning rate at `step`, which lies in [start, end).

        Every segment shares the trunk's linear warmup. A trunk is constant after it; a cooldown falls linearly to zero
        at its end; a QAT phase climbs over its re-warmup, holds, and falls linearly to zero from `decay_start` on:
        schedules after Dremov et al., arXiv 2509.22935 (classic and fused), whose exact shapes are not public.
        """
        rate = self.learning_rate * _climb(step, self.warmup_steps)
        if self.kind == "cooldown":
            return rate * _fall(step, self.start, self.end)
        if self.switch is not None:
            climb = _climb(step - self.start, self.switch.rewarmup_steps)
            fall = _fall(step, self.switch.decay_start, self.end)
            return rate * self.switch.learning_rate * min(climb, fall)
        return rate

    def digest(self, parent: str | None) -> str:
        """The segment's name: of its configuration, its parent's name, and the version of the numerics."""
        config = self._plain(_NAMES)
        # Being evaluated or not, a segment trains the same numbers and keeps its name.
        del config["evaluate"]
        if self.kind == "trunk":
            # Where a trunk is cut into pieces changes nothing: its state at a step has one name.
            config["start"], parent = 0, None
        content = {"config": config, "parent": parent, "numerics": self.numerics}
        return _digest(content)

    @property
    def bits(self) -> float | None:
        """What the column `bits` says of a run that ends here."""
        if self.quantization is not None:
            return self.quantization.bits
        return None if self.switch is None else CONTROL_BITS

    @property
    def numerics(self) -> str:
        """The version of the code that made its numbers."""
        own, activation = self.quantization, self.quantization.activation if self.quantization else None
        return numerics(part.quantizer for part in (own, activation) if part is not None)

    def trunk_digest(self) -> str:
        """The name of the trunk that a segment belongs to: what all branches of one model and seed have in common."""
        common = ("shape", "seed", "corpus", "sequences", "sequence", "learning_rate", "warmup_steps", "weight_decay")
        return _digest(self._plain((*common, "precision")))

    @property
    def stack(self) -> tuple[Any, ...] | None:
        """What segments must have in common to be trained as one stack (`qatplan.training.stack`).

        Trunk pieces stay among themselves, for others wait for their ends. None for a rounding, which trains nothing.
        """
        if self.kind == "round":
            return None
        activation = self.quantization.activation if self.quantization else None
        same = (self.shape, self.sequences, self.sequence, self.backend, self.device, self.precision, self.corpus)
        return (self.kind == "trunk", activation, *same)

    def _plain(self, names: tuple[str, ...]) -> dict[str, Any]:
        # dataclasses.asdict copies deeply, which is most of the time of planning ten thousand runs.
        values = {name: getattr(self, name) for name in names}
        if values["precision"] == "float32":
            del values["precision"]  # it came later: names stay
        return {
            name: _flat(value) if name in _NESTED and value is not None else value for name, value in values.items()
        }


def _climb(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / steps) if steps > 0 else 1.0


def _fall(step: int, start: int, end: int) -> float:
    return min(1.0, (end - step) / (end - start)) if end > start else 1.0


def _flat(value: Any) -> dict[str, Any]:
    """The fields of a nested configuration, without those that came later and keep their default: names stay."""
    plain = {key: item for key, item in vars(value).items() if _LATER.get(key, _NOTHING) != item}
    if isinstance(value, Quantization) and value.activation is not None:
        plain["activation"] = vars(value.activation)
    if isinstance(value, Quantization) and (recipe := RECIPES[value.post_training]) is not None:
        plain["recipe"] = vars(recipe)
    return plain


_NAMES = tuple(field.name for field in fields(SegmentConfig))
_NESTED = ("shape", "quantization", "switch")
_NOTHING = object()
_LATER = {"activation": None, "post_training": "rtn", "optimizer": "adamw", "update": "learning-rate",
          "transition_rate": None}  # fmt: skip


# json.dumps makes an encoder for every call, a tenth of the time of planning ten thousand runs.
_encoded = json.JSONEncoder(sort_keys=True).encode


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_encoded(content).encode()).hexdigest()[:20]


def from_json(record: dict[str, Any]) -> SegmentConfig:
    """The configuration that `dataclasses.asdict` made a dictionary of."""
    fields = dict(record)
    fields["shape"] = Shape(**fields["shape"])
    if fields["quantization"]:
        inner = dict(fields["quantization"])
        inner["activation"] = Activation(**inner["activation"]) if inner.get("activation") else None
        fields["quantization"] = Quantization(**inner)
    fields["switch"] = Switch(**fields["switch"]) if fields["switch"] else None
    return SegmentConfig(**fields)
