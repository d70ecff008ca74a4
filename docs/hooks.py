"""What the site takes from the code when it is built: a page says `<!-- generated: NAME -->` and gets the text here."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable

import pyarrow as pa
import typer

from qatplan.cli.app import COMMANDS, app
from qatplan.laws import NAMES, get
from qatplan.models.formats import BLOCKS, NAMED
from qatplan.quant.registry import ENTRIES
from qatplan.runs import FIELDS, Field

MARKER = re.compile(r"^<!-- generated: (?P<name>[a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs for every page; a marker that names nothing stops the build with a KeyError."""
    return MARKER.sub(lambda found: GENERATED[found["name"]](), markdown)


def cli() -> str:
    """Every command: what it does, its example, its arguments and options."""
    group = typer.main.get_command(app)
    return "\n\n".join(_command(name, group.commands[name]) for name in COMMANDS)  # type: ignore[attr-defined]


def _command(name: str, command: typer.core.TyperCommand) -> str:
    context = typer.Context(command, info_name=f"qatplan {name}")
    text = [f"## qatplan {name}"]
    for paragraph in (command.help or "").split("\n\n"):
        words = paragraph.replace("\b", "").strip()
        if words.startswith("Example: "):
            lines = words.removeprefix("Example: ").splitlines()
            # Where a line does not end in a backslash, it is one that was only wrapped.
            joined = re.sub(r"(?<!\\)\n\s*", " ", "\n".join(lines))
            text.append(f"```bash\n{joined}\n```")
        else:
            text.append(" ".join(words.split()))
    text.append(f"```text\n{' '.join([f'qatplan {name}', *command.collect_usage_pieces(context)])}\n```")
    records = [record for p in command.get_params(context) if (record := p.get_help_record(context)) is not None]
    text.append(_table(("argument or option", "meaning"), ((f"`{left}`", right) for left, right in records)))
    return "\n\n".join(text)


def fields() -> str:
    """The columns of a runs table."""
    rows = (
        (f"`{f.name}`", _kind(f), f.unit, "yes" if f.required else "", f.meaning) for f in FIELDS
    )  # fmt: skip
    return _table(("column", "type", "unit", "required", "meaning"), rows)


def _kind(field: Field) -> str:
    """The type, short: a curve is a list of structures."""
    return "list" if isinstance(field.type, pa.ListType) else f"`{field.type}`"


def laws() -> str:
    """The laws with formula, domain, source, and how the formula reached us."""
    parts = []
    for law in map(get, NAMES):
        formula = "\n".join(textwrap.wrap(law.formula, 90, subsequent_indent="    "))
        parts.append(
            f"### {law.name}\n\n{law.title}.\n\n```text\n{formula}\n```\n\n"
            f"- Domain: {law.domain}.\n- Source: {law.source}.\n- Evidence: [{law.evidence}]."
        )
    return "\n\n".join(parts)


def quantizers() -> str:
    """The quantizers with formula and source."""
    rows = (
        (
            f"`{e.name}`", ", ".join(f"{b:g}" for b in e.bits), "symmetric" if e.symmetric else "asymmetric",
            ", ".join(["learned"] * e.learnable + ["live"] * e.live), "/".join(e.granularity), "/".join(e.activations),
            e.formula, f"{e.source} [{e.evidence}]",
        )
        for e in ENTRIES
    )  # fmt: skip
    heads = ("name", "bits", "grid", "range", "weights share", "activations share", "formula", "source")
    return _table(heads, rows)


def formats() -> str:
    """The weight formats known by name, with bits per weight of a matrix of 4096 columns, scales included."""
    named = ((f"`{u.name}`", f"{8 * u.bytes_of(4096, 4096) / 4096**2:.4g}", u.source) for u in NAMED.values())
    blocks = (
        (f"`{b.name}`", f"{b.bits_per_weight:.4g}", f"{b.weights} weights in {b.bytes} bytes") for b in BLOCKS.values()
    )
    first = _table(("format", "bits per weight", "source"), named)
    return f"{first}\n\n{_table(('block type of ggml', 'bits per weight', 'block'), blocks)}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = tuple(heads)
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    escaped = text.replace("|", r"\|")
    # What stands in backticks is code, where < is itself.
    return escaped if escaped.startswith("`") else escaped.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


GENERATED: dict[str, Callable[[], str]] = {
    "cli": cli,
    "fields": fields,
    "laws": laws,
    "quantizers": quantizers,
    "formats": formats,
}
