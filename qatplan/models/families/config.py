"""The fields of one `config.json`, read with their names in every refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qatplan.errors import UsageError, shorten
from qatplan.models.architecture import LARGEST, MOST_LAYERS, Architecture
from qatplan.models.layers import Layer

_WINDOWED = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
_WHOLE = frozenset({"full_attention", "linear_attention", "indexed_attention"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A parsed file, of the model type `family`."""

    name: str
    family: str
    fields: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """The plain value; None where it is missing or null."""
        return self.fields.get(key)

    def whole(self, *keys: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number under the first of the keys that is given; required where there is no default."""
        key = next((key for key in keys if self.get(key) is not None), keys[0])
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            shown = shorten(repr(value)) if not isinstance(value, int) or abs(value) < 10**60 else "larger"
            raise UsageError(f"{self.name}: {key} is {shown}, but it must be a whole number from {least} to {most}.")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UsageError(f"{self.name}: {key} is {shorten(repr(value))}, but it must be true or false.")
        return value

    def numbers(self, key: str) -> frozenset[int] | None:
        """A list of layer indices; None where it is not given."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            raise UsageError(f"{self.name}: {key} is {shorten(repr(value))}, but it must be a list of layer numbers.")
        return frozenset(value)

    def one_per_layer(self, key: str, allowed: frozenset[str]) -> list[str] | None:
        """A list of one word for each layer; None where it is not given."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != self.layers or not set(map(str, value)) <= allowed:
            raise UsageError(
                f"{self.name}: {key} is {shorten(repr(value))}, but it must have one of "
                f"{', '.join(sorted(allowed))} for each of the {self.layers} layers."
            )
        return value

    def refuse(self, key: str, *, allowed: str, unless: bool) -> None:
        """Raise UsageError for a value whose tensors are not known, unless the condition holds."""
        if not unless:
            raise UsageError(f"{self.name}: {key} is {shorten(repr(self.get(key)))}, but only {allowed} is understood.")

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.whole("num_hidden_layers", "n_layer", "num_layers", most=MOST_LAYERS)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.whole("hidden_size", "n_embd", "n_embed", "d_model")

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.whole("num_attention_heads", "n_head")

    def kv_heads(self) -> int:
        """Key and value heads: as many as query heads where the file does not say."""
        return self.whole("num_key_value_heads", default=self.heads)

    def head_size(self, default: int | None = None) -> int:
        """Size of a head; where the file does not say, the family's own or width / heads, rounded down."""
        return self.whole("head_dim", default=default or max(self.width // self.heads, 1))

    def windows(self, kinds: list[str] | None) -> list[int]:
        """The window of each layer, 0 for none: by `layer_types` where the file has it, else by `kinds`."""
        allowed = frozenset(_WINDOWED) | _WHOLE
        kinds = self.one_per_layer("layer_types", allowed) or kinds or ["full_attention"] * self.layers
        if self.get("use_sliding_window") is False:
            kinds = ["full_attention" if kind == "sliding_attention" else kind for kind in kinds]
        return [self.whole(_WINDOWED[kind]) if kind in _WINDOWED else 0 for kind in kinds]

    def architecture(
        self, stack: list[Layer], *, tied: bool, feed_forward: int, kv_heads: int, head_size: int, experts: int = 1,
        active: int = 1, **rest: Any,
    ) -> Architecture:  # fmt: skip
        """The architecture of these layers; `tied` unless the file says otherwise."""
        return Architecture(
            name=self.name, layers=self.layers, width=self.width, heads=self.heads, kv_heads=kv_heads,
            head_size=head_size, feed_forward=feed_forward, vocabulary=self.whole("vocab_size"),
            tied=self.flag("tie_word_embeddings", tied), experts=experts, experts_active=active, stack=tuple(stack),
            source=self.source, **rest,
        )  # fmt: skip

    @property
    def source(self) -> str:
        """Where the shape is from, and that the file names a quantization whose bytes are not those counted."""
        said = self.get("quantization_config")
        if not isinstance(said, Mapping):
            return f"config.json of {self.name}"
        method = shorten(str(said.get("quant_method", "of an unnamed method")))
        bits = f" of {shorten(str(said['bits']))} bits" if said.get("bits") is not None else ""
        return (
            f"config.json of {self.name}, whose weights are already quantized (quantization_config: {method}{bits}); "
            "the bytes here are those of the format asked for"
        )
