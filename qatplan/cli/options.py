"""Options that several commands share, each defined once.

Use them as annotations: `def fit(runs: Runs, as_json: Json = False)`. Quantities are parsed by `qatplan.units`, so that
`--params 1.5B` and `--memory 4GiB` mean the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qatplan.errors import QatplanError, UsageError
from qatplan.units import parse_bytes, parse_count


def parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` for `typer.Option(parser=...)`: its one-sentence error then names the option it was given to."""

    def parse_option(text: str) -> Any:
        try:
            return parse(text)
        except QatplanError as error:
            raise typer.BadParameter(str(error)) from error

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


location_parser = parser(_location)
count_parser = parser(_positive)
bytes_parser = parser(parse_bytes)
bits_parser = parser(_bits)
names_parser = parser(_names)


def pairs(texts: Iterable[str] | None, option: str, form: str) -> dict[Any, str]:
    """Texts such as NAME=VALUE or PARAMS:TOKENS as a mapping; UsageError for another form, and a name given twice."""
    found: dict[Any, str] = {}
    for text in texts or ():
        name, _, value = (part.strip() for part in text.partition("=" if "=" in form else ":"))
        if not name or not value:
            raise UsageError(f"{option} '{text}' is not of the form {form}.")
        if name in found:
            raise UsageError(f"{option} gives {name} twice.")
        found[name] = value
    return found


def ask(help: str, metavar: str | None = None, **settings: Any) -> Any:
    """An option that is called as its parameter; `settings` are typer's."""
    return typer.Option(metavar=metavar, help=help, **settings)


def flag(name: str, help: str) -> Any:
    """A switch without an opposite."""
    return typer.Option(name, help=help)


def count(help: str, metavar: str = "COUNT") -> Any:
    """An option that takes a count more than 0, such as 1.5B."""
    return ask(help, metavar, parser=count_parser)


def location(help: str, metavar: str = "DIR") -> Any:
    """An option that takes a path or the URL of an object store."""
    return ask(help, metavar, parser=location_parser)


PARAMS = count("Parameters of the model, e.g. 1.5B.")
TOKENS = count("Training tokens in all, e.g. 300B.")
HOLDOUT = "largest-n|largest-d|top-compute:0.2"

Json = Annotated[bool, flag("--json", "Print one JSON object on stdout and nothing else there.")]
Force = Annotated[bool, flag("--force", "Overwrite the output file if it exists.")]
Details = Annotated[bool, flag("--details", "Print everything that is known, not the main things alone.")]
_RUNS = "Folders (also s3:// and gs:// URLs), Parquet files, or CSV files whose columns carry our field names."
RunPaths = Annotated[list[Any], typer.Argument(parser=location_parser, metavar="RUNS...", help=_RUNS)]
FIT = "A fitted law (JSON) written by `qatplan fit`."
FitPath = Annotated[Path, typer.Argument(metavar="FIT", help=FIT)]
_ROWS = 'Keep only these rows, e.g. "bits in (2, 4) and seed == 0".'
Rows = Annotated[str | None, ask(_ROWS, "EXPRESSION")]
Counting = Annotated[str, ask("Which parameters N counts.", "total|nonembedding")]
Huber = Annotated[float, ask("Delta of the Huber terms on log residuals.")]
KeepTuning = Annotated[bool, flag("--keep-tuning", "Keep runs that another learning rate beat at the same point.")]
_EFFECTS = "Random effects that runs of one trunk, or also of one curve, share; auto takes what the rows support."
Effects = Annotated[Literal["none", "trunk", "curve", "auto"], ask(_EFFECTS)]
Seed = Annotated[int, ask("Seed of everything random.", min=0)]
Params = Annotated[float | None, PARAMS]
Tokens = Annotated[float | None, TOKENS]
Flops = Annotated[float | None, count("Training FLOPs, e.g. 1e22.")]
GpuHours = Annotated[float | None, count("Hours of one device, e.g. 500.", "HOURS")]
Memory = Annotated[int | None, ask("Memory that may be used, e.g. 4GiB.", "BYTES", parser=bytes_parser)]
BitWidths = Annotated[Any, ask("Bit widths to consider, e.g. 2,3,4,8.", "B,B,...", parser=bits_parser)]
Fraction = Annotated[float | None, ask("Share of the tokens in QAT, 0 to 1; the law's best unless given.")]
KvFormat = Annotated[str, ask("Format of the KV cache: f16, q8_0, q4_0, fp8, ...")]
Device = Annotated[str, ask("Training device: a100, h100, h200, b200, l40s, mi300x, ...")]
Mfu = Annotated[float, ask("Share of the device's peak that training reaches.")]
Level = Annotated[float, ask("Level of the intervals.")]
ExtrapolationLimit = Annotated[float, ask("Factor beyond the fitted range that exits with 4.", "FACTOR")]
TrainOn = Annotated[Literal["auto", "cpu", "cuda"], ask("Device to compute on; auto takes a GPU if there is one.")]
Workers = Annotated[int | None, ask("Segments trained at once; default one a core.", min=1)]
