"""The graph of segments behind a specification: one trunk per model and seed, every run a branch, no token twice.

Pure: no torch, no files. Two runs that need the same segment share it because it has the same digest.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from qatplan.errors import UsageError
from qatplan.quant.registry import GroupSize
from qatplan.runs.schema import CONTROL_BITS
from qatplan.sweeping.specification import Grid, Specification
from qatplan.training.corpus.corpus import CorpusInfo
from qatplan.training.recipes import RECIPES
from qatplan.training.segment import Activation, Quantization, SegmentConfig, Switch
from qatplan.training.shape import Shape, shape_of_width, training_flops_per_token

COMPILE_SECONDS = 60.0
"""What compiling a size costs a sweep: half a minute of one worker, and as much of those that wait for it."""
REFERENCE_WIDTH = 64
FLOPS_BEYOND_MATRICES = 4e5
"""From one-thread compiled rates of 70 thousand tokens/s at width 24 and 20 thousand at width 80."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A node: its configuration, its parent's id, and how its end is reported if it is a run."""

    id: str
    parent: str | None
    config: SegmentConfig
    schedule: str
    """full-precision, classic, fused, fused-late or post-training; trunk and cooldown pieces say full-precision."""
    cooldown: float
    """Share of the first phase, or of D_total, over which the learning rate falls; `Training.cooldown` without one."""
    qat_decay: float | None = None
    """Share of the second phase over which it falls; None without one."""


def evaluation_tokens(config: SegmentConfig) -> float:
    """As many tokens as could be trained while a segment's end is evaluated: a forward pass is a third of a step."""
    return config.validation_tokens / 3 if config.evaluate else 0.0


def timed_tokens(config: SegmentConfig) -> float:
    """Tokens that a segment trains, and as many as its post-training method and its evaluation take the time of."""
    recipe = RECIPES[config.quantization.post_training] if config.kind == "round" and config.quantization else None
    return config.tokens + (recipe.tokens if recipe is not None else 0) + evaluation_tokens(config)


def work_of(segment: Segment) -> float:
    """The time of a segment up to a common factor: tokens times (FLOPs a token + a constant).

    The constant stands for the cost of a token that does not grow with the model; without it the time left of a sweep
    over small models is far too short.
    """
    config = segment.config
    return timed_tokens(config) * (training_flops_per_token(config.shape, config.sequence) + FLOPS_BEYOND_MATRICES)


@dataclass(frozen=True)
class Graph:
    """All segments, parents before children."""

    segments: dict[str, Segment]

    @property
    def runs(self) -> list[Segment]:
        """The segments whose end is a row of the table."""
        return [segment for segment in self.segments.values() if segment.config.evaluate]

    def children(self) -> dict[str, list[str]]:
        """Ids of each segment's children."""
        result: dict[str, list[str]] = {name: [] for name in self.segments}
        for segment in self.segments.values():
            if segment.parent is not None:
                result[segment.parent].append(segment.id)
        return result

    @property
    def tokens(self) -> int:
        """Tokens that the sweep trains."""
        return sum(segment.config.tokens for segment in self.segments.values())

    @property
    def tokens_from_scratch(self) -> int:
        """Tokens that training each run on its own would take; rounding after training takes none."""
        return sum(run.config.end_tokens for run in self.runs if run.config.kind != "round")

    @property
    def longest(self) -> int:
        """Tokens that the longest run has seen at its end."""
        return max(run.config.end_tokens for run in self.runs)

    @property
    def device(self) -> str:
        """What all segments are trained on: `cpu` or `cuda`."""
        return next(iter(self.segments.values())).config.device

    @property
    def sweep_id(self) -> str:
        """The digest of all run ids."""
        return hashlib.sha256("".join(sorted(run.id for run in self.runs)).encode()).hexdigest()[:20]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the numbers depend on beside the specification, and the room there is for stacks."""

    device: str
    can_compile: bool
    gpu_bytes: int | None = None
    """Memory of its GPU; None on a CPU."""


def build(
    specification: Specification, corpus: CorpusInfo, machine: Machine, backends: Mapping[int, str] | None = None
) -> Graph:
    """The graph of a specification on a corpus; UsageError where a fraction, size or evaluation cannot be realised.

    `backends` are those of a sweep already begun, by width; what is not in it is decided here.
    """
    builder = _Builder(specification, corpus, machine)
    for grid in specification.grids:
        for model in _models(grid):
            builder.add(grid, *model)
    graph = _choose_backends(builder.graph(), specification.training.backend, machine, backends or {})
    wanted, available = specification.training.validation_tokens, corpus.validation_tokens
    if wanted > available:
        raise UsageError(f"training.validation_tokens {wanted:g} is more than the {available} tokens held out.")
    return graph


def _models(grid: Grid) -> Iterator[tuple[int, float, int, int]]:
    """Every (width, multiple of the learning rate, seed, D_total in tokens)."""
    for width, rate, seed in itertools.product(grid.widths, grid.trunk_learning_rates, grid.seeds):
        n_total = shape_of_width(width).n_total
        for tokens in (*grid.tokens, *(ratio * n_total for ratio in grid.tokens_per_parameter)):
            yield width, rate, seed, round(tokens)


def _switches(grid: Grid, bits: float, fraction: float, tokens: float) -> Iterator[tuple[Switch, float, float]]:
    """Every second phase of a grid at a bit width, with its re-warmup and decay as shares: its length is not known."""
    # The control has no scales.
    scale_rates = (1.0,) if bits == CONTROL_BITS else grid.scale_learning_rates
    # A learning rate has no target.
    updates = [(u, t) for u in grid.updates for t in ((None,) if u == "learning-rate" else grid.transition_rates)]
    choices = itertools.product(
        grid.ratios(bits, fraction, tokens), scale_rates, grid.optimizer_states, grid.rewarmups, grid.optimizers,
        updates, grid.qat_decays,
    )  # fmt: skip
    for rate, scale_rate, state, rewarmup, optimizer, (update, transition_rate), decay in choices:
        switch = Switch(
            learning_rate=rate, scale_learning_rate=scale_rate, optimizer_state=state, rewarmup_steps=0, decay_start=0,
            optimizer=optimizer, update=update, transition_rate=transition_rate,
        )  # fmt: skip
        yield switch, rewarmup, decay


def _quantizations(grid: Grid, bits: float) -> Iterator[Quantization | None]:
    """Each quantization of weights and activations that a grid has at a bit width; none at the control's."""
    if bits == CONTROL_BITS:
        yield None
        return
    choices = itertools.product(grid.activation_bits, grid.activation_quantizers, grid.activation_granularities)
    activations = dict.fromkeys(
        None if bits is None else Activation(quantizer=quantizer, bits=bits, granularity=granularity)
        for bits, quantizer, granularity in choices
    )
    for quantizer, group_size, activation in itertools.product(grid.quantizers, grid.group_sizes, activations):
        yield Quantization(
            quantizer=quantizer, bits=bits, group_size=group_size, activation=activation,
            embedding_bits=max(bits, grid.embedding_bits_floor),
        )  # fmt: skip


class _Builder:
    """Collects the segments that runs need; trunks are cut into pieces at the end, when all switch points are known."""

    def __init__(self, specification: Specification, corpus: CorpusInfo, machine: Machine) -> None:
        self.training = specification.training
        self.per_step = self.training.sequence * self.training.sequences
        self.corpus = corpus
        self.machine = machine
        self.branches: dict[str, Segment] = {}
        self.trunks: dict[str, tuple[SegmentConfig, set[int]]] = {}

    def add(self, grid: Grid, width: int, rate: float, seed: int, tokens: int) -> None:
        steps = round(tokens / self.per_step)
        if steps < 10:
            raise UsageError(f"tokens {tokens} is less than ten steps of {self.per_step} tokens.")
        base = self._trunk_config(width, rate, seed)
        for cooldown in grid.cooldowns or (self.training.cooldown,):
            if grid.full_precision:
                self._cooled(base, steps, cooldown, evaluate=True)
            for bits in grid.bits:
                for quantization in _quantizations(grid, bits):
                    self._second_phases(grid, base, steps, tokens, cooldown, bits, quantization)

    def _second_phases(
        self, grid: Grid, base: SegmentConfig, steps: int, tokens: int, cooldown: float, bits: float,
        quantization: Quantization | None,
    ) -> None:  # fmt: skip
        if quantization is not None:
            self._check_groups(base, quantization.group_size)
        for fraction in grid.fractions:
            if fraction == 0:
                # Without quantization the control is the full-precision model itself.
                control = self._cooled(base, steps, cooldown, evaluate=quantization is None or grid.full_precision)
                rounded = [replace(quantization, post_training=m) for m in grid.post_training] if quantization else []
                for own in rounded:
                    config = replace(base, kind="round", start=steps, end=steps, evaluate=True, quantization=own)
                    self._branch(config, control, "post-training", cooldown)
                continue
            qat_steps = self._qat_steps(fraction, steps, tokens)
            for schedule, choice in itertools.product(grid.schedules, _switches(grid, bits, fraction, tokens)):
                self._qat(base, steps, qat_steps, schedule, cooldown, quantization, *choice)

    def graph(self) -> Graph:
        segments: dict[str, Segment] = {}
        for base, positions in self.trunks.values():
            parent, start = None, 0
            for end in sorted(positions):
                config = replace(base, start=start, end=end)
                name = config.digest(None)
                segments[name] = Segment(
                    id=name, parent=parent, config=config, schedule="full-precision", cooldown=self.training.cooldown
                )
                parent, start = name, end
        # Cooldowns were made before the QAT phases and roundings that hang on them, so parents come first.
        segments.update(self.branches)
        return Graph(segments)

    def _trunk_config(self, width: int, rate: float, seed: int) -> SegmentConfig:
        training = self.training
        rule = training.learning_rate * (width / REFERENCE_WIDTH) ** training.learning_rate_exponent
        # A guess that is right for most segments of a large sweep: those that it is wrong about are named twice.
        compiled = self.machine.can_compile and training.backend != "eager"
        return SegmentConfig(
            kind="trunk", shape=shape_of_width(width, vocabulary=self.corpus.vocabulary), seed=seed,
            corpus=self.corpus.digest, start=0, end=0, sequences=training.sequences, sequence=training.sequence,
            learning_rate=rule * rate, warmup_steps=round(training.warmup / self.per_step),
            weight_decay=training.weight_decay, backend="compiled" if compiled else "eager", device=self.machine.device,
            validation_tokens=int(training.validation_tokens), evaluate=False, precision=training.precision,
        )  # fmt: skip

    def _trunk(self, base: SegmentConfig, end: int) -> str | None:
        """The trunk's state at step `end`, which becomes a place to cut; None is the untrained model."""
        if end == 0:
            return None
        self.trunks.setdefault(base.trunk_digest(), (base, set()))[1].add(end)
        return replace(base, end=end).digest(None)

    def _cooled(self, base: SegmentConfig, end: int, cooldown: float, *, evaluate: bool) -> str:
        """The full-precision model of `end` steps, cooled down over the last share of them."""
        start = end - max(1, round(cooldown * end))
        config = replace(base, kind="cooldown", start=start, end=end, evaluate=evaluate)
        return self._branch(config, self._trunk(base, start), "full-precision", cooldown)

    def _qat(
        self, base: SegmentConfig, steps: int, qat_steps: int, schedule: str, cooldown: float,
        quantization: Quantization | None, switch: Switch, rewarmup: float, decay: float,
    ) -> None:  # fmt: skip
        start = steps - qat_steps
        decay_start = steps - max(1, round(decay * qat_steps))
        if start == 0:
            # Quantized from the start there is no switch: the trunk's warmup serves, and nothing is carried over.
            schedule, parent, rewarmup, switch = "classic", None, 0.0, replace(switch, optimizer_state="reset")
        elif schedule == "classic":
            parent = self._cooled(base, start, cooldown, evaluate=False)
        else:
            parent = self._trunk(base, start)
            if schedule == "fused-late":
                decay_start = steps - max(1, round(cooldown * steps))
                if decay_start < start:
                    raise UsageError(
                        f"fractions {qat_steps / steps:.3g} is below the cooldown {cooldown:g}: schedule fused-late "
                        "starts its decay after the switch."
                    )
                decay = (steps - decay_start) / qat_steps
        switch = replace(switch, rewarmup_steps=round(rewarmup * qat_steps), decay_start=decay_start)
        # A first phase that is absent, or not cooled down, has the sweep's cooldown in its name only.
        cooled = schedule == "fused-late" or (schedule == "classic" and start > 0)
        config = replace(
            base, kind="qat", start=start, end=steps, evaluate=True, quantization=quantization, switch=switch
        )
        self._branch(config, parent, schedule, cooldown if cooled else self.training.cooldown, decay)

    def _branch(
        self, config: SegmentConfig, parent: str | None, schedule: str, cooldown: float, qat_decay: float | None = None
    ) -> str:
        name = config.digest(parent)
        known = self.branches.get(name)
        if known is not None and known.config.evaluate:
            config = known.config
        self.branches[name] = Segment(
            id=name, parent=parent, config=config, schedule=schedule, cooldown=cooldown, qat_decay=qat_decay
        )
        return name

    def _qat_steps(self, fraction: float, steps: int, tokens: int) -> int:
        qat_steps = round(fraction * steps)
        if qat_steps < 1 or (fraction < 1 and qat_steps == steps):
            raise UsageError(
                f"fractions {fraction:g} of {tokens} tokens leaves less than one step of {self.per_step} tokens to a "
                "phase."
            )
        return qat_steps

    @staticmethod
    def _check_groups(base: SegmentConfig, group_size: GroupSize) -> None:
        for inputs in (base.shape.width, base.shape.feed_forward):
            if isinstance(group_size, int) and inputs % group_size:
                raise UsageError(
                    f"group_sizes {group_size} does not divide {inputs}, the inputs of a weight at width "
                    f"{base.shape.width}."
                )


def seconds_saved(shape: Shape, device: str) -> float:
    """Seconds per token that compiled kernels save over eager ones on one core, or on a GPU.

    They save calls, and passes over memory, of which there are so many per layer and unit of width. From rates at
    widths 24 to 256 (benchmarks/train.py): 7, 10, 16, 22 microseconds at 24, 40, 56 and 80, and 30 to 90 beyond.
    On a GPU, where calls are captured, 0.15, 0.10, 0.25 and 0.85 in QAT at 64, 128, 256 and 512 (NVIDIA H200,
    benchmarks/gpu.py), and a fifth to a third of that in stacks of eight, which are not counted on.
    """
    size = shape.layers * shape.width
    return 4e-6 + 5e-8 * size if device == "cpu" else 5e-8 + 1.3e-10 * size


def _choose_backends(graph: Graph, backend: str, machine: Machine, decided: Mapping[int, str]) -> Graph:
    """Settle eager or compiled per size, and rename the segments that were built for the other."""
    if backend == "compiled" and not machine.can_compile:
        raise UsageError("training.backend compiled needs a C++ compiler here; use auto or eager.")
    totals: Counter[int] = Counter()
    for segment in graph.segments.values():
        totals[segment.config.shape.width] += segment.config.tokens
    names: dict[str | None, str | None] = {None: None}
    segments: dict[str, Segment] = {}
    for old in graph.segments.values():
        width = old.config.shape.width
        repaid = totals[width] * seconds_saved(old.config.shape, machine.device) >= COMPILE_SECONDS
        compiled = backend == "compiled" or (backend == "auto" and machine.can_compile and repaid)
        if width in decided:
            compiled = decided[width] == "compiled"
        parent, new = names[old.parent], old
        if (compiled, parent) != (old.config.backend == "compiled", old.parent):
            config = replace(old.config, backend="compiled" if compiled else "eager")
            new = replace(old, id=config.digest(parent), parent=parent, config=config)
        names[old.id] = new.id
        segments[new.id] = new
    return Graph(segments)
