"""The `qatplan` command: the list of its commands, and how every error becomes one sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections import UserDict
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from qatplan import __version__
from qatplan.cli.output import note
from qatplan.errors import QatplanError, QatplanWarning

# In the order of the work: each a function of its name in a module of its name, with the first line of its docstring.
# Such a module may import typer, qatplan.units, qatplan.errors and qatplan.cli at its top, and everything else inside
# the function.
COMMANDS: dict[str, str] = {
    "demo": "Run the whole loop: sweep, fit, recommend, plot, report.",
    "sweep": "Train the runs of a specification; repeat it to go on.",
    "runs": "Check and summarise tables of runs, or merge them.",
    "export": "Write a quantized run as packed integer codes.",
    "import": "Turn anybody's table of runs into ours.",
    "fit": "Fit a scaling law to runs, with intervals and a certificate.",
    "compare": "Rank laws by their error on runs held out, or by their splits.",
    "laws": "List the laws: formula, source, domain, parameters.",
    "quantizers": "List the quantizers that a sweep may name.",
    "predict": "Predict the loss of a run, and say how sure that is.",
    "recommend": "Recommend bits, size, tokens and the QAT fraction.",
    "memory": "Memory of a model in a quantized format, in bytes.",
    "design": "Say which runs to make next, and what they buy.",
    "plot": "Draw one figure: vector (SVG, PDF) or PNG, readable in grey.",
    "report": "Write one self-contained HTML page about a fit.",
}


class _Commands(UserDict[str, Any]):
    """The commands by name; a module is imported when its command is first looked up.

    So one command's start does not pay for the modules and signatures of all the others, and `qatplan --help` for none.
    """

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            function = "import_runs" if name == "import" else name  # a word of Python's own
            module = importlib.import_module(f"qatplan.cli.{function}")
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command(name)(getattr(module, function))
            self.data[name] = typer.main.get_command(single)
        return self.data[name]


class _LazyGroup(TyperGroup):
    """A group whose commands load one by one."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(dict.fromkeys(COMMANDS))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    name="qatplan",
    cls=_LazyGroup,
    help="Plan quantization-aware training: measure small runs, fit scaling laws, recommend bits, tokens and the QAT "
    "fraction.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qatplan {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of qatplan itself; everything else is a command's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code.

    0 good, 1 our bug, 2 usage, 3 unusable data, 4 fit or plan not trustworthy, 5 sweep incomplete, 130 interrupted.
    """
    command = _built(app)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", QatplanWarning)
            warnings.showwarning = cast(Any, _show_warning)
            # A command that ends early (typer.Exit) returns its code here, one that ends normally returns None.
            code = command.main(args=given, prog_name="qatplan", standalone_mode=False)
    except QatplanError as error:
        return _fail(str(error), error.exit_code)
    except _USAGE_ERRORS as error:
        return _usage(cast(Any, error))
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted.", 130)
    except (BrokenPipeError, SystemExit) as error:
        # The reader (head, less) has left, which Click turns into an exit with 1: no failure of ours.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 0
    except OSError as error:
        # What the system refuses (a name too long, no permission, a broken disk) is no fault of ours.
        name = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{name}{error.strerror or error}.", 3)
    except Exception as error:
        if os.environ.get("QATPLAN_TRACEBACK"):
            import traceback

            traceback.print_exc()
        hint = "set QATPLAN_TRACEBACK=1 to see where, and please report it."
        return _fail(f"internal error ({type(error).__name__}: {_one_line(str(error))}); {hint}", 1)
    # Typer turns Ctrl-C into an exit with 130, without a word.
    return _fail("interrupted.", 130) if code == 130 else code if isinstance(code, int) else 0


@cache
def _built(app: typer.Typer) -> Any:
    """The command behind an app: reading its signatures takes as long as many a command."""
    return typer.main.get_command(app)


# Typer vendors Click from 0.26 on, so the base class of its usage errors is reached through one of them.
_USAGE_ERRORS: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _usage(error: Any) -> int:
    message = _one_line(error.format_message())
    # Click adds its guess as a second sentence; one is enough.
    message = re.sub(r"\.? Did you mean ([^?]*)\?$", r" (did you mean \1?)", message)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "qatplan"
    return _fail(f"{message.rstrip('.')}; see `{path} --help`.", 2)


def _show_warning(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Notes of ours as one line, others as Python shows them."""
    ours = issubclass(category, QatplanWarning)
    if ours:
        note(f"note: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _fail(message: str, code: int) -> int:
    note(f"qatplan: {message}")
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
