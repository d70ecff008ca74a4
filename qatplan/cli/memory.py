"""`qatplan memory`: the bytes that a quantized model takes, item by item."""

from __future__ import annotations

from typing import Annotated

import typer

from qatplan.cli import options as opt
from qatplan.cli.output import show


def memory(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A known model such as llama-3.2-1b, or a config.json.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="int4, int4:g128 (groups), int3:g64:z (zero points), int2:e8 (embeddings at 8 bits), Q4_K_M, IQ2_XXS, "
            "gptq4, awq, torchao-int4, mxfp4, nvfp4, bf16, ...",
        ),
    ] = "int4",
    context: Annotated[int, opt.ask("Tokens per sequence that the KV cache holds.", min=1)] = 8192,
    batch: Annotated[int, opt.ask("Sequences at a time.", min=1)] = 1,
    kv_format: opt.KvFormat = "f16",
    params: opt.Params = None,
    layers: Annotated[int | None, opt.ask("Layers.")] = None,
    width: Annotated[int | None, opt.ask("Width of the residual stream.")] = None,
    heads: Annotated[int | None, opt.ask("Query heads.")] = None,
    kv_heads: Annotated[int | None, opt.ask("Key and value heads; as many as heads unless given.")] = None,
    head_size: Annotated[int | None, opt.ask("Size of one head; width / heads unless given.")] = None,
    feed_forward: Annotated[int | None, opt.ask("Width of the gated feed-forward layer.")] = None,
    vocabulary: Annotated[int | None, opt.ask("Entries of the embedding table.")] = None,
    tied: Annotated[bool, typer.Option("--tied/--untied", help="Is the head the embedding table?")] = True,
    experts: Annotated[int, opt.ask("Experts per layer.")] = 1,
    experts_active: Annotated[int, opt.ask("Experts that a token passes through.")] = 1,
    as_json: opt.Json = False,
) -> None:
    """Memory of a model in a quantized format, in bytes.

    Weights, KV cache and workspace.

    Example: qatplan memory llama-3.1-8b --format Q4_K_M --context 8192 --kv-format q8_0
    """
    from qatplan import api

    taken = api.memory(
        model, format=form, context=context, batch=batch, kv_format=kv_format, params=params, layers=layers,
        width=width, heads=heads, kv_heads=kv_heads, head_size=head_size, feed_forward=feed_forward,
        vocabulary=vocabulary, tied=tied, experts=experts, experts_active=experts_active,
    )  # fmt: skip
    show(taken.as_dict(), taken.sections, as_json)
