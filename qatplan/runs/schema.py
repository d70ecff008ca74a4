"""The columns of a runs table: what each means, its unit, and the values it may hold.

One row is one training run. Missing is null, never 0: a full-precision run has null `bits`, a diverged run null `loss`.
This file only describes; what one may do with a table is in `qatplan.runs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

FINISHED = "finished"
DIVERGED = "diverged"
STATUSES = (FINISHED, DIVERGED)
QAT_SCHEDULES = ("classic", "fused", "fused-late")
SCHEDULES = ("full-precision", *QAT_SCHEDULES, "post-training")
OPTIMIZER_STATES = ("kept", "reset")
CONTROL_BITS = 16.0
"""`bits` of a run whose second phase was trained in full precision: the control of what the schedule alone does."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a runs table."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    required: bool = False
    """Whether every row must have a value."""
    minimum: float | None = None
    """Smallest allowed value; None where any is."""
    open_minimum: bool = False
    """Whether the minimum itself is refused."""
    measured: bool = False
    """Whether this is a measurement of time, different in every repetition, and so no part of a digest."""


_CURVE = pa.list_(pa.struct([("tokens", pa.int64()), ("loss", pa.float32())]))
_TRANSITIONS = pa.list_(pa.struct([("tokens", pa.int64()), ("rate", pa.float32()), ("target", pa.float32())]))


def _text(name: str, meaning: str, *, required: bool = False, measured: bool = False) -> Field:
    return Field(name=name, type=pa.string(), meaning=meaning, required=required, measured=measured)


def _whole(
    name: str, meaning: str, unit: str, *, low: int | None = 0, small: bool = False, need: bool = False
) -> Field:
    kind = pa.int32() if small else pa.int64()
    return Field(name=name, type=kind, meaning=meaning, unit=unit, minimum=low, required=need)


def _real(name: str, meaning: str, unit: str, *, zero: bool = False, measured: bool = False) -> Field:
    return Field(
        name=name, type=pa.float64(), meaning=meaning, unit=unit, minimum=0.0, open_minimum=not zero, measured=measured
    )


FIELDS: tuple[Field, ...] = (
    _text("run_id", "identity of the run: digest of its resolved configuration", required=True),
    _text("parent_id", "run or checkpoint this run branched from"),
    _text("sweep_id", "digest of the sweep specification"),
    _text("code_version", "version of the code that matters to the numbers"),
    _text("corpus", "name of the training text"),
    _text("corpus_digest", "SHA-256 of the training text"),
    _whole("n_total", "parameters of the model, all of them", "parameters", low=1, need=True),
    _whole("n_embedding", "parameters of embeddings and head", "parameters"),
    _whole("n_nonembedding", "parameters outside embeddings and head", "parameters", low=1),
    _whole("width", "residual width of the model", "units", low=1, small=True),
    _whole("layers", "decoder layers", "layers", low=1, small=True),
    _whole("d_total", "tokens trained on in all: d_fp + d_qat", "tokens", low=1, need=True),
    _whole("d_fp", "tokens trained on in full precision", "tokens", need=True),
    _whole("d_qat", "tokens of the second phase, trained on with quantization in the loop", "tokens", need=True),
    _real("bits", "bits per weight; null is full precision, 16 a second phase without quantization", "bits per weight"),
    _real("activation_bits", "bits per activation; null is full precision", "bits per activation"),
    _whole(
        "group_size", "weights that share one scale; null is one scale per output channel", "weights", low=1, small=True
    ),
    _real("embedding_bits", "bits per weight of embeddings and head; null is full precision", "bits per weight"),
    _text("quantizer", "name of the weight quantizer"),
    _text("granularity", "what shares a range in a weight: tensor, channel or group"),
    _text("activation_quantizer", "name of the activation quantizer"),
    _text("activation_granularity", "what shares a range of activations: tensor or token"),
    _text("post_training", "how codes were found after training: rtn, adaround or importance; free text on import"),
    _text(
        "post_training_settings", "constants of that method: calibration tokens, iterations, learning rate and so on"
    ),
    _text("schedule", "one of " + ", ".join(SCHEDULES) + "; free text on import"),
    _whole("seed", "seed of initialisation and data order", "", low=None),
    _real("learning_rate", "peak learning rate of the full-precision trunk", "per step"),
    _real("qat_learning_rate", "peak learning rate of the QAT phase as a ratio to the trunk's", "ratio"),
    _text("optimizer_state", "optimizer state at the switch to QAT: " + " or ".join(OPTIMIZER_STATES)),
    _text("optimizer", "what updated the matrices in the QAT phase"),
    _text("update", "what set the size of its steps: learning-rate, or a transition rate of the codes"),
    _real("transition_rate", "first target of that rate over the root of the bits", "share", zero=True),
    _whole("rewarmup_tokens", "length of the warmup that starts the QAT phase", "tokens"),
    _real("cooldown", "share of the phase's tokens over which the learning rate decays to zero", "fraction", zero=True),
    _real("qat_decay", "the same of the QAT phase; null where unknown or there is none", "fraction"),
    _whole("batch_tokens", "tokens per optimizer step", "tokens", low=1, small=True),
    _whole("sequence", "tokens per sequence", "tokens", low=1, small=True),
    _real("scale_learning_rate", "learning rate of the quantizer's scales over the weights'", "ratio", zero=True),
    _real("loss", "final validation loss; null when diverged", "nats per token"),
    _real("loss_se", "standard error of the loss over validation blocks", "nats per token", zero=True),
    _real("bits_per_byte", "final validation loss per byte of text", "bits per byte"),
    Field(name="curve", type=_CURVE, meaning="loss along the run", unit="tokens, nats per token"),
    Field(
        name="transitions",
        type=_TRANSITIONS,
        meaning="share of the weights whose code changed in a step, along the QAT phase, with what was aimed at",
        unit="tokens, shares",
    ),
    _text("status", "one of " + ", ".join(STATUSES), required=True),
    _text("trunk_id", "runs that share a trunk: digest of model, seed, corpus and trunk hyperparameters"),
    _real("epochs", "passes over the training text", "epochs", zero=True),
    _real("seconds", "time spent training this run's own tokens", "s", zero=True, measured=True),
    _real("tokens_per_second", "training throughput of this run's own tokens", "tokens/s", zero=True, measured=True),
    _text("device", "device trained on"),
    _text("backend", "eager or compiled"),
    _text("precision", "in which matrices were multiplied: float32 or bfloat16; null is float32"),
    _whole("threads", "CPU threads per process", "threads", low=1, small=True),
    _text("torch_version", "version of torch"),
    _text("finished_at", "time the run ended, ISO 8601 in UTC", measured=True),
)

NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
SCALARS: tuple[str, ...] = tuple(field.name for field in FIELDS if not pa.types.is_list(field.type))
"""Names of the columns of single values: all but what was logged along the run."""
BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}
MEASURED: frozenset[str] = frozenset(field.name for field in FIELDS if field.measured)
CIRCUMSTANCES: frozenset[str] = MEASURED | {"sweep_id", "curve", "transitions", "device", "threads", "torch_version"}
"""Fields that may differ between two rows of one run: the sweep that made it, when, on what, and what was logged along
it, at points that the sweep sets."""
ALIASES: dict[str, str] = {"n_params": "n_total"}
"""Other names a field may be given by on the command line and in CSV headers."""

SCHEMA: pa.Schema = pa.schema([pa.field(f.name, f.type, nullable=not f.required) for f in FIELDS])
