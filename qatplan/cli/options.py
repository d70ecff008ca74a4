"""Options that several commands share, each defined once.

Use them as annotations: `def fit(runs: Runs, as_json: Json = False)`. Quantities are parsed by `qatplan.units`, so that
`--params 1.5B` and `--memory 4GiB` mean the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from qatplan.errors import QatplanError
from qatplan.units import parse_bytes, parse_count


def parser(parse: Callable[[str], Any], metavar: str) -> Callable[[str], Any]:
    """`parse` for `typer.Option(parser=...)`: its one-sentence error then names the option it was given to."""

    def parse_option(text: str) -> Any:
        try:
            return parse(text)
        except QatplanError as error:
            raise typer.BadParameter(str(error)) from error

    parse_option.__name__ = metavar
    return parse_option


def _positive(text: str) -> float:
    value = parse_count(text)
    if value <= 0:
        raise typer.BadParameter(f"'{text}' is not more than 0.")
    return value


def _bits(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= 16 for value in values):
        raise typer.BadParameter(f"'{text}' is not a list of bit widths such as 2,3,4,8; each is in 0 to 16.")
    return values


def _names(text: str) -> tuple[str, ...]:
    values = tuple(part.strip() for part in text.split(","))
    if not all(values):
        raise typer.BadParameter(f"'{text}' is not a list of names such as a,b,c.")
    return values


def _location(text: str) -> str | Path:
    # A URL is no path: pathlib would fold its two slashes into one.
    return text if "://" in text else Path(text)


location_parser = parser(_location, "PATH")
count_parser = parser(_positive, "COUNT")
bytes_parser = parser(parse_bytes, "BYTES")
bits_parser = parser(_bits, "BITS")
names_parser = parser(_names, "NAMES")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
RunPaths = Annotated[
    list[Any],
    typer.Argument(
        parser=location_parser,
        metavar="RUNS",
        help="Folders (also s3:// and gs:// URLs), Parquet files, or CSV files whose columns carry our field names.",
    ),
]
FitPath = Annotated[Path, typer.Argument(metavar="FIT", help="A fitted law (JSON) written by `qatplan fit`.")]
Rows = Annotated[
    str | None,
    typer.Option("--rows", metavar="EXPRESSION", help='Keep only these rows, e.g. "bits in (2, 4) and seed == 0".'),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Params = Annotated[
    float | None,
    typer.Option("--params", parser=count_parser, metavar="COUNT", help="Parameters of the model, e.g. 1.5B."),
]
Tokens = Annotated[
    float | None,
    typer.Option("--tokens", parser=count_parser, metavar="COUNT", help="Training tokens in all, e.g. 300B."),
]
Memory = Annotated[
    int | None,
    typer.Option("--memory", parser=bytes_parser, metavar="BYTES", help="Memory that may be used, e.g. 4GiB."),
]
BitWidths = Annotated[
    Any, typer.Option("--bits", parser=bits_parser, metavar="B,B,...", help="Bit widths to consider, e.g. 2,3,4,8.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output file if it exists.")]
Details = Annotated[bool, typer.Option("--details", help="Print everything that is known, not the main things alone.")]
Flops = Annotated[
    float | None, typer.Option("--flops", parser=count_parser, metavar="COUNT", help="Training FLOPs, e.g. 1e22.")
]
GpuHours = Annotated[
    float | None,
    typer.Option("--gpu-hours", parser=count_parser, metavar="HOURS", help="Hours of one device, e.g. 500."),
]
Fraction = Annotated[
    float | None, typer.Option("--fraction", help="Share of the tokens in QAT, 0 to 1; the law's best unless given.")
]
Context = Annotated[int, typer.Option("--context", help="Tokens per sequence that the KV cache holds.")]
Batch = Annotated[int, typer.Option("--batch", help="Sequences at a time at inference.")]
KvFormat = Annotated[str, typer.Option("--kv-format", help="Format of the KV cache: f16, q8_0, q4_0, fp8, ...")]
Device = Annotated[str, typer.Option("--device", help="Training device: a100, h100, h200, b200, l40s, mi300x, ...")]
Mfu = Annotated[float, typer.Option("--mfu", help="Share of the device's peak that training reaches.")]
Level = Annotated[float, typer.Option("--level", help="Level of the intervals.")]
ExtrapolationLimit = Annotated[
    float,
    typer.Option("--extrapolation-limit", metavar="FACTOR", help="Factor beyond the fitted range that exits with 4."),
]
