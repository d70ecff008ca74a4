"""What commands do with damaged and odd files: how many end in a fault of ours, hang, or change a user's file.

    python benchmarks/fuzz.py [--cases 20000] [--seconds S] [--seed 0] [--only KIND ...] [--show 20]

Fits, specifications, tables, model configurations and sweeps that are shipped or made here are mutated: values of a
tree exchanged for odd ones, bytes flipped, files cut, encoded otherwise or nested deeply; a tenth of the values come
from Hypothesis. Each goes through a command, in this process, with a limit of 20 s beside the time that it waits for a
core. Prints the counts as JSON, and what went wrong: internal errors, exit codes that are none of ours, errors without
their one sentence, secrets and escapes on a stream, hangs, and files that were changed outside of --out.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import importlib
import io
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from qatplan import runs
from qatplan.cli.app import main as command

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 20
CODES = {0, 2, 3, 4, 5}
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 10**400, 0.0, -0.5, 1e-300, 1e300, float("nan"),
    float("inf"), -float("inf"), "", "a", "\x1b[2J", "\ud800", "\u0000", "x" * 300, "../../etc/passwd",
    "s3://KEY:SECRET@b/c", "/dev/zero", "1e999", "nan", "9" * 5000, [], [[]], [None], [1, "a"], {}, {"a": {}},
    {"": None}, [0] * 1000,
)  # fmt: skip
WORDS = (b"nan", b"inf", b"-1", b"1e999", b"9" * 5000, b"null", b"[", b"]", b"{", b'"', b"\0", b"\xff\xfe", b"\x1b[2J")
NUMBERS = (
    "nan", "inf", "-1", "0", "1e999", "1e300", "1e-300", "9" * 5000, "", "1,5", "4GB", "\x1b[2J", "0.5", "1B", "--",
    "7" * 300, "1000000000",
)  # fmt: skip
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False,
    "sliding_window": None, "layer_types": ["full_attention"] * 32, "text_config": None, "head_dim": 128,
}  # fmt: skip
SWEEP = {
    "specification": {"corpus": {"name": "sotu"}, "training": {}, "grids": [{"widths": [16]}]},
    "numerics": "1", "backends": {"16": "eager"}, "corpus": "0" * 64,
}  # fmt: skip
ASKED = "--params 1M --tokens 1B"
COMMANDS = {
    "fit.json": (
        f"predict {{file}} {ASKED} --bits 4", f"predict {{file}} {ASKED} --json",
        f"recommend {{file}} {ASKED} --bits 2,4", "recommend {file} --flops 1e18 --memory 2MB --json",
        "recommend {file} --target-loss 2 --bits 4 --json", f"design {{file}} --budget 1e15 --runs 2 {ASKED}",
        f"recommend --law qat-fraction {ASKED} --split {{file}}", "plot parameters {file} --out out.svg",
        "plot fraction {file} --out out.svg", "plot frontier {file} --out out.svg",
        "plot contours {file} --out out.png", "plot residuals {file} --runs runs.parquet --out out.svg",
        "report {file} --out out.html", "fit runs.parquet --law chinchilla --bootstrap 0 --out {file}",
    ),
    "sweep.toml": (
        "sweep {file} --dry-run --device cpu", "sweep {file} --dry-run --json --device cpu",
        "export {file} --sweep . --run a --out out.safetensors", "export {file} --sweep gone --run a --out out.bin",
    ),
    "runs.csv": (
        "runs {file}", "runs {file} --json --fields", "import {file} --out out.parquet",
        "fit {file} --law chinchilla --bootstrap 0 --out out.json", "compare {file} --laws chinchilla --json",
        "plot loss-curves {file} --out out.svg",
    ),
    "damaged.parquet": ("runs {file}", "runs . --json", "import {file} --out out.parquet"),
    "config.json": (
        "memory {file}", "memory {file} --format Q4_K_M --json",
        "recommend --law qat-fraction --tokens 1B --model {file}",
    ),
    "sweep/sweep.json": (
        "sweep --status sweep --json", "sweep --status sweep", "runs sweep",
        "export spec.toml --sweep sweep --run a --out out.safetensors",
    ),
    "foreign.json": ("import {file} --out out.parquet --map n_params=N --map d_total=D --map loss=val_loss",),
    "arguments": (
        "predict fits.json", "recommend fits.json", "recommend --law qat-fraction", "memory", "design fits.json",
        "fit runs.parquet --law chinchilla --out out.json --bootstrap 0",
    ),
}  # fmt: skip
SLOW = ("plot", "report", "sweep sweep.toml", "recommend", "design")
"""Commands that are drawn less often than the others."""
OPTIONS = {
    "predict": ("--params", "--tokens", "--bits", "--fraction", "--level", "--extrapolation-limit"),
    "recommend": (
        "--params", "--tokens", "--bits", "--flops", "--memory", "--gpu-hours", "--context", "--fraction", "--mfu",
        "--target-loss", "--fp-tokens", "--batch", "--tolerance", "--level", "--vocabulary", "--group-size",
    ),
    "memory": (
        "--params", "--layers", "--width", "--heads", "--feed-forward", "--vocabulary", "--context", "--batch",
        "--head-size", "--kv-heads", "--experts", "--format",
    ),
    "design": ("--budget", "--runs", "--params", "--tokens", "--bits", "--gpu-hours", "--mfu", "--level"),
    "fit": ("--huber", "--level", "--seed", "--holdout", "--fix", "--rows"),
}  # fmt: skip


class Hung(BaseException):
    """A command took longer than the limit."""


@dataclass
class Counts:
    """What happened."""

    cases: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(which, the command and what it said)."""
    slowest: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = Counter(which for which, _ in self.problems)
        return {
            "cases": self.cases, "by_kind": dict(self.by_kind), "exit_codes": dict(self.codes),
            "tracebacks": found.pop("traceback", 0), "hangs": found.pop("hang", 0),
            "changed_files": found.pop("changed", 0), "other_problems": dict(found),
            "slowest_seconds": round(self.slowest, 1),
        }  # fmt: skip


def seeds() -> dict[str, tuple[bytes, ...]]:
    """What is mutated, by kind, from what is shipped."""
    table = runs.read([ROOT / "data/main/runs.parquet"]).slice(0, 60)
    frame = table.drop_columns(["curve"]).to_pandas().dropna(axis=1, how="all")
    flat = [name for name in frame.columns if frame[name].dtype != object or isinstance(frame[name].iloc[0], str)]
    foreign = [{"N": 1e6 * i, "D": 1e9 * i, "val_loss": 3.0 / i} for i in range(1, 9)]
    small = [path for path in sorted((ROOT / "fits").glob("*.json")) if path.stat().st_size < 4e6]
    return {
        "fit.json": tuple(path.read_bytes() for path in small),
        "sweep.toml": tuple(path.read_bytes() for path in sorted((ROOT / "qatplan/cli").glob("*.toml"))),
        "runs.csv": (frame[flat].to_csv(index=False).encode(),),
        "damaged.parquet": (runs.encode(table),),
        "config.json": tuple(json.dumps(CONFIG | {"model_type": kind}).encode() for kind in ("llama", "gemma3")),
        "sweep/sweep.json": (json.dumps(SWEEP).encode(),),
        "foreign.json": (json.dumps(foreign).encode(),),
        "arguments": (b"",),
    }


def mutated(content: bytes, name: str, dice: random.Random) -> bytes:
    """A file like `content` that somebody damaged or made up."""
    if not content:
        return content
    if dice.random() < 0.3 or name.endswith(".parquet"):
        return broken(content, dice)
    if name.endswith(".json"):
        tree = json.loads(content)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            tree = exchanged(tree, dice.choice(ODD), dice)
        return json.dumps(tree).encode()
    if name.endswith(".toml"):
        lines = content.decode().splitlines()
        spots = [i for i, line in enumerate(lines) if "=" in line]
        for spot in dice.sample(spots, k=min(len(spots), dice.choice((1, 1, 2)))):
            lines[spot] = f"{lines[spot].partition('=')[0]} = {toml(dice.choice(ODD))}"
        return "\n".join(lines).encode("utf-8", "replace")
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(dice.choice((1, 2, 20))):
        row = dice.choice(rows)
        row[dice.randrange(len(row))] = ascii(dice.choice(ODD))
    return "\n".join(map(",".join, rows)).encode()


def exchanged(tree: Any, value: Any, dice: random.Random) -> Any:
    """The tree with one of its values, of any depth, exchanged, removed or put in a list."""
    if not isinstance(tree, dict | list) or not tree or dice.random() < 0.02:
        return value
    made = copy.copy(tree)
    key = dice.choice(list(made)) if isinstance(made, dict) else dice.randrange(len(made))
    if isinstance(made[key], dict | list) and dice.random() < 0.6:
        made[key] = exchanged(made[key], value, dice)
    elif dice.random() < 0.15:
        del made[key]
    else:
        made[key] = [made[key]] if dice.random() < 0.1 else value
    return made


def broken(content: bytes, dice: random.Random) -> bytes:
    """Bytes flipped, cut, repeated, inserted, encoded otherwise or nested deeply."""
    spot = dice.randrange(len(content) + 1)
    way = dice.randrange(8)
    if way == 0:
        return content[:spot]
    if way == 1:
        return content[:spot] + dice.choice(WORDS) + content[spot:]
    if way == 2:
        return content[:spot] + content[spot:][dice.randrange(1, 100) :]
    if way == 3:
        return content[:spot] + bytes([dice.randrange(256)]) + content[spot + 1 :]
    if way == 4:
        return content.decode("latin-1").encode("utf-16")
    if way == 5:
        return content[:spot] + b"[" * 100_000 + content[spot:]
    if way == 6:
        return b"\xef\xbb\xbf" + content + "é".encode("latin-1")
    return content[:spot] + content[: dice.randrange(1, 2000)] + content[spot:]


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, float):
        return str(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def waiting() -> float:
    """Seconds that this thread was ready and had no core, which are nobody's fault; 0 where that is not known."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def attempt(words: list[str], counts: Counts) -> None:
    """One command, its end judged."""
    out, err = io.StringIO(), io.StringIO()

    began, spent, waited = time.monotonic(), time.process_time(), waiting()

    def hang(*_: object) -> None:
        left = LIMIT_SECONDS + waiting() - waited - (time.monotonic() - began)
        if left <= 0:
            raise Hung
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.1))

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(LIMIT_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            code: int | str = command(words)
    except Hung as error:
        code = "hang"
        where = traceback.extract_tb(error.__traceback__)[-2]  # the last is `hang`
        err.write(f"after {time.process_time() - spent:.1f} CPU seconds at {where.filename}:{where.lineno}")
    except BaseException as error:
        code = "traceback"
        err.write(f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    said = err.getvalue()
    counts.cases += 1
    counts.slowest = max(counts.slowest, time.monotonic() - began)
    counts.codes[str(code)] += 1
    which = ""
    if code in ("hang", "traceback", 1):
        which = "hang" if code == "hang" else "traceback"
    elif code not in CODES:
        which = "exit code"
    elif code in (2, 3) and len(re.findall("^qatplan: ", said, re.MULTILINE)) != 1:
        which = "no sentence"
    elif "SECRET" in said + out.getvalue() or "\x1b" in said + out.getvalue():
        which = "secret or escape"
    if which:
        counts.problems.append((which, f"{' '.join(w[:60] for w in words)}: {said[-300:].strip()}"))


LIBRARIES = (
    "fitting.api",
    "planning.plan",
    "figures.make",
    "reporting.build",
    "importing.importer",
    "sweeping.estimate",
    "sweeping.export",
)
"""Of qatplan: loaded before anything is timed."""


class Workplace:
    """A folder with the files that commands need beside the one that is mutated; the current one while it is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.counts = Counts()
        for name in LIBRARIES:
            importlib.import_module(f"qatplan.{name}")
        runs.write(runs.read([ROOT / "data/main/runs.parquet"]).slice(0, 60), folder / "runs.parquet")
        shutil.copy(ROOT / "fits/qat-loss.json", folder / "fits.json")
        shutil.copy(ROOT / "qatplan/cli/demo_short.toml", folder / "spec.toml")
        self._kept = self._digests()

    def _digests(self) -> dict[str, str]:
        files = [p for p in self._folder.rglob("*") if p.is_file() and not p.name.startswith("out.")]
        return {str(p.relative_to(self._folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def case(self, kind: str, content: bytes, dice: random.Random) -> None:
        """One file through one command; then the folder must be as it was, and is made so."""
        template = dice.choice(COMMANDS[kind])
        if template.startswith(SLOW):
            template = dice.choice(COMMANDS[kind])
        words, place = template.replace("{file}", kind).split(), self._folder / kind
        expected = dict(self._kept)
        if kind == "arguments":
            for option in dice.sample(OPTIONS[words[0]], dice.choice((1, 2, 3, 5))):
                words += [option, dice.choice(NUMBERS)]
        else:
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
            expected[kind] = hashlib.sha256(content).hexdigest()
        attempt(words, self.counts)
        self.counts.by_kind[kind] += 1
        if self._digests() != expected:
            self.counts.problems.append(("changed", " ".join(words)))
        for path in (*self._folder.glob("out.*"), place):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def workplace() -> Iterator[Workplace]:
    """A workplace in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="qatplan-fuzz-") as name, contextlib.chdir(name):
        yield Workplace(Path(name))


def campaign(cases: int, *, seconds: float = float("inf"), number: int = 0, only: list[str] | None = None) -> Counts:
    """Mutated files through the commands until so many cases or seconds are over."""
    dice, start = random.Random(number), seeds()
    kinds = [kind for kind in COMMANDS if not only or kind in only]
    with workplace() as place:
        end = time.monotonic() + seconds
        while place.counts.cases < cases and time.monotonic() < end:
            kind = dice.choice(kinds)
            place.case(kind, mutated(dice.choice(start[kind]), kind, dice), dice)
        return place.counts


def hypothesis_campaign(examples: int, number: int = 0) -> Counts:
    """Values of Hypothesis in place of one of a fit, a configuration or the record of a sweep."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    values = st.recursive(
        leaves, lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4)
    )
    start = seeds()
    with workplace() as place:

        @seed(number)
        @settings(
            max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(values, st.integers(0, 2**32), st.sampled_from(("fit.json", "config.json", "sweep/sweep.json")))
        def one(value: Any, throw: int, kind: str) -> None:
            dice = random.Random(throw)
            tree = exchanged(json.loads(dice.choice(start[kind])), value, dice)
            place.case(kind, json.dumps(tree).encode(), dice)

        one()
        return place.counts


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="mutation only, for so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=tuple(COMMANDS), metavar="KIND", help="mutation only")
    parser.add_argument("--show", type=int, default=20, help="problems to print of each sort")
    asked = parser.parse_args()
    whole = not asked.only and asked.seconds == float("inf")
    cases = asked.cases * 9 // 10 if whole else asked.cases
    made = [campaign(cases, seconds=asked.seconds, number=asked.seed, only=asked.only)]
    if whole:
        made.append(hypothesis_campaign(asked.cases - cases, asked.seed))
    for counts in made:
        print(json.dumps(counts.as_dict(), indent=2))
        told = Counter[str]()
        for which, what in counts.problems:
            told[which] += 1
            if told[which] <= asked.show:
                print(f"{which}: {what!a}", file=sys.stderr)


if __name__ == "__main__":
    main()
