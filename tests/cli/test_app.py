"""The shell: what it loads, how it fails, and what it prints."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys

import pytest
import typer

from qatplan import __version__
from qatplan.cli import app as shell
from qatplan.errors import DataError, NotTrustworthy, SweepIncomplete

HEAVY = {"torch", "scipy", "pandas", "matplotlib", "pyarrow", "numpy"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `code`, whose stdout is swallowed."""
    script = (
        f"import sys, io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n    {code}\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import qatplan",
        "import qatplan.cli.app",
        "from qatplan.cli.app import main; assert main(['--help']) == 0",
        *(f"from qatplan.cli.app import main; assert main(['{name}', '--help']) == 0" for name in shell.COMMANDS),
    ],
)
def test_nothing_heavy_is_loaded_to_start(code: str) -> None:
    assert not HEAVY & loaded_after(code)


def test_one_command_does_not_load_the_others() -> None:
    loaded = loaded_after("from qatplan.cli.app import main; assert main(['laws', '--json']) == 0")
    commands = {f"qatplan.cli.{name}" for name in shell.COMMANDS}
    assert loaded & commands == {"qatplan.cli.laws"}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException | None]:
    """The shell around one command, `act`, that raises what the test puts in."""
    chosen: dict[str, BaseException | None] = {"raises": None}
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        pass

    @app.command()
    def act(size: int = 1) -> None:
        print("{}")
        if chosen["raises"] is not None:
            raise chosen["raises"]

    monkeypatch.setattr(shell, "app", app)
    return chosen


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (DataError("Row 3 is bad."), 3, "qatplan: Row 3 is bad.\n"),
        (NotTrustworthy("E is at its bound."), 4, "qatplan: E is at its bound.\n"),
        (SweepIncomplete("2 runs are missing."), 5, "qatplan: 2 runs are missing.\n"),
        (KeyboardInterrupt(), 130, "qatplan: interrupted.\n"),
        (typer.Exit(7), 7, ""),
    ],
)
def test_errors_become_one_sentence_and_a_code(
    failing: dict[str, BaseException | None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException | None,
    code: int,
    said: str,
) -> None:
    failing["raises"] = error
    assert shell.main(["act"]) == code
    printed = capsys.readouterr()
    assert printed.err == said
    assert printed.out == "{}\n"


def test_a_bug_is_said_to_be_ours(
    failing: dict[str, BaseException | None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing["raises"] = ZeroDivisionError("of\ntwo lines")
    monkeypatch.delenv("QATPLAN_TRACEBACK", raising=False)
    assert shell.main(["act"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "internal error (ZeroDivisionError: of two lines)" in said
    monkeypatch.setenv("QATPLAN_TRACEBACK", "1")
    assert shell.main(["act"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Missing command"),
        (["actt"], "No such command 'actt'"),
        (["act", "--size", "big"], "'--size'"),
        (["act", "--sise", "2"], "No such option"),
        (["act", "more"], "unexpected extra argument"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_2(
    failing: dict[str, BaseException | None], capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert shell.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert re.fullmatch(r"qatplan: .*; see `qatplan( act)? --help`\.\n", printed.err)


@pytest.mark.parametrize("name", shell.COMMANDS)
def test_every_command_shows_a_worked_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.main([name, "--help"]) == 0
    assert f"qatplan {name} " in capsys.readouterr().out.split("Example", 1)[1]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.main(["--help"]) == 0
    listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.split("Commands:")[1], re.MULTILINE)
    assert listed == list(shell.COMMANDS)


@pytest.mark.parametrize(("name", "line"), shell.COMMANDS.items())
def test_help_says_of_a_command_what_the_command_says_of_itself(name: str, line: str) -> None:
    """It is listed without loading the command."""
    function = "import_runs" if name == "import" else name
    command = getattr(importlib.import_module(f"qatplan.cli.{function}"), function)
    assert command.__doc__.splitlines()[0] == line


def test_help_loads_no_command() -> None:
    loaded = loaded_after("from qatplan.cli.app import main; assert main(['--help']) == 0")
    assert not {f"qatplan.cli.{name}" for name in (*shell.COMMANDS, "import_runs")} & loaded


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.main(["--version"]) == 0
    assert capsys.readouterr().out == f"qatplan {__version__}\n"


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "qatplan", "runs", "/no/such/folder", "--json"], capture_output=True)
    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr == b"qatplan: /no/such/folder does not exist.\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f'{sys.executable} -c "from qatplan.cli import app\n'
        "import typer\n"
        "a = typer.Typer()\n"
        "@a.command()\n"
        "def f():\n"
        "    for i in range(100000): print('x' * 100)\n"
        "app.app = a\n"
        'import sys; sys.exit(app.main([]))" | head -1; exit ${PIPESTATUS[0]}',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.dumps(done.stdout.decode().strip()) == json.dumps("x" * 100)
