"""Recipes as files for other tools. What a tool cannot express is said in the file, or refused in a sentence.

Looked up in: torchao 0.18.0, `torchao/quantization/qat/api.py` and `fake_quantize_config.py` (QATConfig over an
IntxWeightOnlyConfig: weights of 2 to 8 whole bits, symmetric, per group or per output channel); ParetoQ at commit
4bcc120, `utils/process_args.py`, `run_train.sh` and `train.py` (w_bits 1, 2, 3, 4, and 0 for 1.58 bits); torchtitan
0.3.0, `components/optimizer/lr_scheduler.py` and `optimizer.py`, `config/configs.py` (TrainingConfig) and
`components/checkpointer/base.py`, whose `components/quantization` has float8, MXFP8 and NVFP4 and no integer QAT.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qatplan.errors import UsageError
from qatplan.planning.fraction_only import FractionAdvice
from qatplan.planning.recipes.recipe import Recipe, recipe
from qatplan.planning.recommend import Recommendation
from qatplan.storage.atomic import write_bytes


def export(
    advice: Recommendation | FractionAdvice,
    tool: str,
    out: Path,
    *,
    batch_tokens: float,
    learning_rate: float | None = None,
    qat_learning_rate: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write a plan's recipe for a tool of `WRITERS` to a file, in steps of `batch_tokens` tokens.

    Raises UsageError for an unknown tool, a file that exists, advice without a schedule, and what a tool cannot hold.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; --force overwrites it.")
    if isinstance(advice, FractionAdvice):
        raise UsageError("an export needs a fit of qat-loss: the fraction law chooses no bits and no schedule.")
    made = recipe(advice, batch_tokens=batch_tokens, learning_rate=learning_rate, qat_learning_rate=qat_learning_rate)
    write_bytes(out, written(made, tool).encode())


def written(recipe: Recipe, tool: str) -> str:
    """The file's text for `torchao`, `paretoq`, `torchtitan` or `yaml`; raises UsageError for what it cannot hold."""
    if tool not in WRITERS:
        raise UsageError(f"export {tool!r} is not known; it must be one of {', '.join(WRITERS)}.")
    return WRITERS[tool](recipe)


def _remarks(recipe: Recipe, *more: str) -> str:
    return "".join(f"# {line}.\n" for line in (*recipe.notes, *more))


def _yaml(recipe: Recipe) -> str:
    """Every field as it is."""
    lines = [f"{name}: {_scalar(value)}\n" for name, value in recipe.as_dict().items() if name != "notes"]
    return _remarks(recipe, "lengths are in steps of batch_tokens tokens") + "".join(lines)


def _scalar(value: object) -> str:
    """JSON scalars are YAML, but for 1e-05, which YAML 1.1 reads as a word: its floats have a point."""
    text = json.dumps(value)
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def _torchao(recipe: Recipe) -> str:
    """A Python module: what to call at which step, and the learning rate's factor."""
    if recipe.bits != int(recipe.bits) or not 2 <= recipe.bits <= 8:
        raise UsageError(f"torchao's integer QAT has 2 to 8 whole bits, and the plan has {recipe.bits:g}; export yaml.")
    table = recipe.embedding_bits
    embeddings = table == int(table) and 2 <= table <= 8
    remarks = (
        "torchao quantizes with steps of max|w| / p recomputed at every step, not with learned ones (LSQ, ParetoQ)",
        f"embeddings are fake-quantized to {table:g} bits per row too; a tied head must be passed by name in `skip`"
        if embeddings
        else f"embeddings stay in full precision: torchao has no integer width of {table:g} bits",
    )
    granularity = "PerAxis(0)" if recipe.group_size is None else f"PerGroup({recipe.group_size})"
    embedding_line = (
        f"EMBEDDINGS = IntxWeightOnlyConfig(weight_dtype=torch.int{int(table)}, granularity=PerAxis(0))"
        if embeddings
        else "EMBEDDINGS = None"
    )
    return f'''"""{recipe.bits:g}-bit weights from step {recipe.switch_step} of {recipe.steps}, for torchao 0.18."""

{_remarks(recipe, *remarks)}
import torch
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.qat import QATConfig

BATCH_TOKENS = {recipe.batch_tokens}
SWITCH_STEP = {recipe.switch_step}  # call prepare(model) before this step
STEPS = {recipe.steps}  # call convert(model) after the last one
LEARNING_RATE = {recipe.learning_rate!r}
QAT_LEARNING_RATE = {recipe.qat_learning_rate!r}
WEIGHTS = IntxWeightOnlyConfig(weight_dtype=torch.int{int(recipe.bits)}, granularity={granularity})
{embedding_line}


def prepare(model: torch.nn.Module, skip: tuple[str, ...] = ()) -> None:
    """Insert fake quantization; modules named in `skip` stay as they are."""
    _each(model, "prepare", torch.nn.Linear, torch.nn.Embedding, skip)


def convert(model: torch.nn.Module) -> None:
    """Replace fake-quantized modules by quantized ones."""
    from torchao.quantization.qat import FakeQuantizedEmbedding, FakeQuantizedLinear

    _each(model, "convert", FakeQuantizedLinear, FakeQuantizedEmbedding, ())


def _each(model, step, linear, embedding, skip) -> None:
    for config, kind in ((WEIGHTS, linear), (EMBEDDINGS, embedding)):
        if config is not None:
            quantize_(
                model,
                QATConfig(config, step=step),
                filter_fn=lambda module, name, kind=kind: isinstance(module, kind) and name not in skip,
            )


def lr_factor(step: int) -> float:
    """Factor of the phase's peak learning rate: warmup, constant, linear decay to zero."""
    if step < SWITCH_STEP:
        warmup, decay, start, end = {recipe.warmup_steps}, {recipe.cooldown_steps}, 0, SWITCH_STEP
    else:
        warmup, decay, start, end = {recipe.rewarmup_steps}, {recipe.qat_steps}, SWITCH_STEP, STEPS
    rise = min(1.0, (step - start + 1) / warmup)
    return rise * (min(1.0, (end - step) / decay) if decay else 1.0)
'''


def _paretoq(recipe: Recipe) -> str:
    """A shell script that runs ParetoQ's train.py for the QAT phase."""
    widths = {1.0: 1, 2.0: 2, 3.0: 3, 4.0: 4}
    ternary = abs(recipe.bits - 1.585) < 0.01
    if recipe.bits not in widths and not ternary:
        raise UsageError(f"ParetoQ has 1, 1.58, 2, 3 and 4 bits, and the plan has {recipe.bits:g}; export yaml.")
    remarks = [
        "ParetoQ trains the QAT phase alone: INPUT_MODEL is the full-precision model, trained elsewhere for "
        f"{recipe.switch_step} steps"
        if recipe.given_fp_tokens is None
        else "INPUT_MODEL is the given full-precision model",
        "its scales are one per output channel"
        + ("" if recipe.group_size is None else f"; the plan's groups of {recipe.group_size} cannot be expressed"),
    ]
    if recipe.schedule == "fused":
        remarks.append(
            "the optimizer's state does not carry over from full precision, as the fused schedule would have it"
        )
    rate = "$QAT_LEARNING_RATE" if recipe.qat_learning_rate is None else f"{recipe.qat_learning_rate!r}"
    needs = [] if recipe.qat_learning_rate is not None else ["QAT_LEARNING_RATE"]
    checks = "".join(f': "${{{name}:?}}"\n' for name in ("INPUT_MODEL", "TRAIN_DATA", "LOCAL_DIR", *needs))
    return f"""#!/bin/sh
# ParetoQ, {recipe.bits:g}-bit weights: {recipe.qat_steps} steps of {recipe.batch_tokens} tokens.
{_remarks(recipe, *remarks)}set -eu
{checks}DEVICES="${{DEVICES:-1}}"
if [ "$(({recipe.sequences} % DEVICES))" -ne 0 ]; then
  echo "a batch of {recipe.sequences} sequences is not divided by $DEVICES devices" >&2
  exit 2
fi
torchrun --nnodes=1 --nproc_per_node="$DEVICES" train.py \\
  --local_dir "$LOCAL_DIR" \\
  --input_model_filename "$INPUT_MODEL" \\
  --output_model_filename "w{0 if ternary else widths[recipe.bits]}" \\
  --train_data_local_path "$TRAIN_DATA" \\
  --do_train True \\
  --do_eval False \\
  --model_max_length {recipe.sequence} \\
  --bf16 True \\
  --max_steps {recipe.qat_steps} \\
  --per_device_train_batch_size 1 \\
  --gradient_accumulation_steps "$(({recipe.sequences} / DEVICES))" \\
  --learning_rate {rate} \\
  --weight_decay 0. \\
  --lr_scheduler_type "linear" \\
  --warmup_steps {recipe.rewarmup_steps} \\
  --qat True \\
  --w_bits {0 if ternary else widths[recipe.bits]}
"""


def _torchtitan(recipe: Recipe) -> str:
    """A Python module that sets both phases on a torchtitan configuration."""
    remarks = [
        "torchtitan 0.3.0 has converters for float8, MXFP8 and NVFP4 and none for integer QAT: its configuration sets "
        "lengths and rates, and the quantizer has to be inserted by a converter of your own (torchao's QATConfig; "
        "export torchao writes it)",
        f"the quantizer to insert: {recipe.bits:g} bits, "
        + ("one step per output channel" if recipe.group_size is None else f"groups of {recipe.group_size}"),
        "the QAT phase is a run of its own: it loads weights alone, so its data loader begins anew; give it data that "
        "the first phase has not read",
    ]
    if recipe.schedule == "fused":
        remarks.append("the optimizer's state does not carry over, as the fused schedule would have it")
    decay = recipe.cooldown_steps / recipe.switch_step if recipe.switch_step else 0.0
    first = f'''

def full_precision(config):
    """The full-precision phase on a Trainer.Config, in place."""
    _common(config, steps={recipe.switch_step}, learning_rate=LEARNING_RATE, folder="full-precision")
    config.lr_scheduler = LRSchedulersContainer.Config(
        warmup_steps={recipe.warmup_steps}, decay_ratio={decay!r}, decay_type="linear", min_lr_factor=0.0
    )
    return config
'''
    return f'''"""A plan for torchtitan 0.3.0: {recipe.switch_step} steps, then {recipe.qat_steps} of QAT."""

{_remarks(recipe, *remarks)}
from torchtitan.components.optimizer import LRSchedulersContainer

LEARNING_RATE = {recipe.learning_rate!r}  # peak of the full-precision phase; None leaves the optimizer's own
QAT_LEARNING_RATE = {recipe.qat_learning_rate!r}  # peak of the QAT phase


def _common(config, *, steps, learning_rate, folder):
    config.training.steps = steps
    config.training.seq_len = {recipe.sequence}
    config.training.global_batch_size = {recipe.sequences}
    if learning_rate is not None:
        for group in config.optimizer.param_groups:
            group.optimizer_kwargs["lr"] = learning_rate
    config.checkpoint.enable = True
    config.checkpoint.folder = folder
{first if recipe.switch_step else ""}

def qat(config, full_precision_checkpoint):
    """The QAT phase on a Trainer.Config, in place; it starts from the weights at an absolute path (.../step-N)."""
    _common(config, steps={recipe.qat_steps}, learning_rate=QAT_LEARNING_RATE, folder="qat")
    config.lr_scheduler = LRSchedulersContainer.Config(
        warmup_steps={recipe.rewarmup_steps}, decay_ratio=None, decay_type="linear", min_lr_factor=0.0
    )
    config.checkpoint.initial_load_path = full_precision_checkpoint
    config.checkpoint.initial_load_model_only = True
    return config
'''


WRITERS: Final[dict[str, Callable[[Recipe], str]]] = {
    "torchao": _torchao,
    "paretoq": _paretoq,
    "torchtitan": _torchtitan,
    "yaml": _yaml,
}
