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
from qatplan.storage.target import check_target


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
    check_target(out, force=overwrite)
    if isinstance(advice, FractionAdvice):
        raise UsageError("an export needs a fit of qat-loss: the fraction law chooses no bits and no schedule.")
    made = recipe(advice, batch_tokens=batch_tokens, learning_rate=learning_rate, qat_learning_rate=qat_learning_rate)
    write_bytes(out, written(made, tool).encode())


def written(recipe: Recipe, tool: str) -> str:
    """The file's text for `torchao`, `paretoq`, `torchtitan` or `yaml`; raises UsageError for what it cannot hold."""
    if tool not in WRITERS:
        raise UsageError(f"export {tool!r} is not known; it must be one of {', '.join(WRITERS)}.")
    return WRITERS[tool](recipe)


def _yaml(recipe: Recipe) -> str:
    """Every field as it is."""
    lines = [f"{name}: {_scalar(value)}\n" for name, value in recipe.as_dict().items() if name != "notes"]
    notes = (*recipe.notes, "lengths are in steps of batch_tokens tokens")
    return "".join([*(f"# {line}.\n" for line in notes), *lines])


def _scalar(value: object) -> str:
    """JSON scalars are YAML, but for 1e-05, which YAML 1.1 reads as a word: its floats have a point."""
    text = json.dumps(value)
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def _torchao(recipe: Recipe) -> str:
    """A Python module: what to call at which step, and the learning rate's factor."""
    if recipe.bits != int(recipe.bits) or not 2 <= recipe.bits <= 8:
        raise UsageError(f"torchao's integer QAT has 2 to 8 whole bits, and the plan has {recipe.bits:g}; export yaml.")
    table = recipe.embedding_bits
    return _filled("torchao.py", recipe, embeddings=table == int(table) and 2 <= table <= 8)


def _paretoq(recipe: Recipe) -> str:
    """A shell script that runs ParetoQ's train.py for the QAT phase."""
    ternary = abs(recipe.bits - 1.585) < 0.01
    if recipe.bits not in (1.0, 2.0, 3.0, 4.0) and not ternary:
        raise UsageError(f"ParetoQ has 1, 1.58, 2, 3 and 4 bits, and the plan has {recipe.bits:g}; export yaml.")
    return _filled("paretoq.sh", recipe, width=0 if ternary else int(recipe.bits))


def _torchtitan(recipe: Recipe) -> str:
    """A Python module that sets both phases on a torchtitan configuration."""
    return _filled("torchtitan.py", recipe)


def _filled(template: str, recipe: Recipe, **more: object) -> str:
    """The template of that name with the recipe's numbers in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).with_name("templates"))
    kept = Environment(
        loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    kept.filters["repr"] = repr
    return kept.get_template(f"{template}.jinja").render(recipe=recipe, **more)


WRITERS: Final[dict[str, Callable[[Recipe], str]]] = {
    "torchao": _torchao, "paretoq": _paretoq, "torchtitan": _torchtitan, "yaml": _yaml,
}  # fmt: skip
