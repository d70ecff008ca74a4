"""The command line that scripts may rely on: commands and options that must not go away or appear unnoticed."""

from __future__ import annotations

from typing import Any, cast

import pytest
import typer

from qatplan import runs
from qatplan.cli.app import app

CONTRACT = {
    "demo": {"--out", "--device"},
    "sweep": {
        *("--out", "--dry-run", "--engine", "--workers", "--stacked", "--device", "--status", "--json-lines"),
        "--tensorboard",
    },
    "runs": {"--json"},
    "import": {"--out", "--map", "--const"},
    "fit": {
        "--law",
        "--out",
        "--rows",
        "--bootstrap",
        "--interval",
        "--holdout",
        "--n",
        "--huber",
        "--effects",
        "--seed",
        "--json",
    },
    "compare": {"--laws", "--score", "--holdout", "--effects", "--json"},
    "predict": {"--params", "--tokens", "--bits", "--fraction", "--json"},
    "recommend": {
        *("--law", "--memory", "--params", "--tokens", "--flops", "--gpu-hours", "--bits", "--context"),
        *("--target-loss", "--split", "--tolerance", "--json"),
    },
    "memory": {"--format", "--context", "--batch", "--kv-format", "--json"},
    "design": {"--budget", "--runs", "--json"},
    "plot": {"--out"},
    "report": {"--out"},
    "laws": {"--json"},
    "quantizers": {"--json"},
    "export": {"--sweep", "--run", "--out", "--json"},
}
"""Options that each command must have."""

EXACT = {
    "runs": {"--rows", "--fields", "--compact", "--force", "--json", "--help"},
    "import": {
        *("--out", "--map", "--const", "--diverged", "--keep-suspect", "--dry-run", "--limit", "--force", "--json"),
        "--help",
    },
    "report": {
        *("--out", "--runs", "--params", "--tokens", "--flops", "--memory", "--bits", "--context", "--vocabulary"),
        *("--sequence", "--split", "--force", "--json", "--help"),
    },
}
"""All options of the commands that have settled."""

RUNS_API = {
    *("ALIASES", "DIVERGED", "FIELDS", "FINISHED", "MEASURED", "SCHEDULES", "SCHEMA", "STATUSES", "Field"),
    *("FileProblem", "Problem", "columns", "complete", "digest", "inspect", "load", "read", "select"),
    *("Inspected", "encode", "sound", "table", "validate", "write"),
}

COMMANDS: dict[str, Any] = cast(Any, typer.main.get_command(app)).commands


def options(name: str) -> set[str]:
    command = COMMANDS[name]
    context = typer.Context(command)
    params = command.get_params(context)
    return {option for param in params for option in param.opts if option.startswith("-")}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_the_options_of_the_contract(name: str) -> None:
    assert options(name) >= CONTRACT[name]


@pytest.mark.parametrize("name", EXACT)
def test_settled_commands_have_no_other_options(name: str) -> None:
    assert options(name) == EXACT[name]


def test_the_public_names_of_runs() -> None:
    assert set(runs.__all__) == RUNS_API
    assert all(getattr(runs, name) is not None for name in runs.__all__)
