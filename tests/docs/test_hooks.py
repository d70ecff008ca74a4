"""What the site takes from the code is all there."""

from __future__ import annotations

from typing import Any, cast

import hooks
import pytest
import typer
from surroundings import ROOT

from qatplan.cli.app import app
from qatplan.laws import NAMES
from qatplan.quant.registry import ENTRIES
from qatplan.runs import FIELDS

COMMANDS: dict[str, Any] = cast(Any, typer.main.get_command(app)).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_listed(name: str) -> None:
    section = hooks.cli().split(f"## qatplan {name}\n")[1].split("\n## qatplan ")[0]
    command = COMMANDS[name]
    options = [p.opts[0] for p in command.get_params(typer.Context(command)) if p.opts[0].startswith("--")]
    assert [option for option in options if f"| `{option}" not in section] == []
    assert f"```bash\nqatplan {name}" in section, "the help has no example"


def test_every_column_law_and_quantizer_is_listed() -> None:
    assert all(f"| `{field.name}` |" in hooks.fields() for field in FIELDS)
    assert all(f"### {name}\n" in hooks.laws() for name in NAMES)
    assert all(f"| `{entry.name}` |" in hooks.quantizers() for entry in ENTRIES)


def test_cells_keep_their_bars_and_stars() -> None:
    assert hooks._table(("a",), [("max|w| * x_hat < 1",)]).splitlines()[-1] == r"| max\|w\| \* x\_hat &lt; 1 |"


def test_every_marker_is_filled_and_an_unknown_one_stops_the_build() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert "<!-- generated" not in hooks.on_page_markdown(page.read_text(encoding="utf-8")), page
    with pytest.raises(KeyError, match="nothing"):
        hooks.on_page_markdown("<!-- generated: nothing -->")
