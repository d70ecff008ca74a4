"""Watching a sweep that really runs: its status from another process, its events, its TensorBoard logs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.specifications import written

from qatplan import runs
from qatplan.cli.app import main
from qatplan.errors import DataError, UsageError
from qatplan.sweeping.progress import status_file

GRIDS = """
[[grid]]
widths = 16
tokens = "12800"
bits = 2
fractions = [0, 0.5]
[[grid]]
widths = 16
tokens = 5120
trunk_learning_rates = 1e3
"""
RUNS = 4


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("specification"), GRIDS)


def command(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "qatplan", "sweep", *map(str, arguments)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def status_of(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["sweep", "--status", str(out), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def watched(
    specification: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[dict[str, Any]], list[status_file.Status]]:
    """A sweep's folder, its logs, its events, and its status as it was seen while it ran."""
    out = tmp_path_factory.mktemp("watched") / "sweep"
    logs = out.parent / "logs"
    process = command(specification, "--out", out, "--workers", 1, "--json-lines", "--tensorboard", logs)
    assert process.stdout is not None
    assert process.stderr is not None
    events, seen = [], []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] != "progress":
            seen.append(status_file.read(out))
    assert process.wait(timeout=300) == 0, process.stderr.read()
    return out, logs, events, seen


def test_every_line_is_an_event_and_they_tell_the_whole_sweep(
    watched: tuple[Path, Path, list[dict[str, Any]], list[status_file.Status]],
) -> None:
    out, _, events, _ = watched
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    done = [event for event in events if event["event"] == "done"]
    rows = runs.read([out]).to_pylist()
    assert {event["segment"] for event in done if event["is_run"]} == {row["run_id"] for row in rows}
    by_id = {row["run_id"]: row for row in rows}
    for event in done:
        if event["is_run"]:
            row = by_id[event["segment"]]
            assert all(event[name] == row[name] for name in ("bits", "width", "seed", "d_total", "schedule"))
    assert events[-1]["state"] == "complete"
    assert events[-1]["tokens"] == sum(event["tokens"] for event in done)
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_status_from_another_process_while_it_runs_and_after(
    watched: tuple[Path, Path, list[dict[str, Any]], list[status_file.Status]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _, _, seen = watched
    assert {one.state for one in seen[:-1]} <= {"running", "complete"}
    assert seen[0].state == "running"
    assert seen[0].pid != os.getpid()
    assert [one.rows for one in seen] == sorted(one.rows for one in seen)
    code, found = status_of(out, capsys)
    assert (code, found["state"], found["rows"], found["diverged"]) == (0, "complete", RUNS, 1)
    assert found["snapshot"]["recorded"] == RUNS
    assert main(["sweep", "--status", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"{RUNS} of {RUNS} runs recorded, 1 diverged" in text
    assert not list(out.glob(".*.tmp"))


def test_the_name_of_a_strangers_run_leads_nowhere() -> None:
    from qatplan.sweeping.progress.tensorboard import name_of

    row = {"width": 16, "d_total": 5120, "bits": None, "schedule": "/../../x", "seed": 0, "run_id": "..\\..\\abc"}
    assert Path(name_of(row)).name == name_of(row)
    assert "\\" not in name_of(row)


def test_tensorboard_reads_the_curves(
    watched: tuple[Path, Path, list[dict[str, Any]], list[status_file.Status]], specification: Path
) -> None:
    from rich.console import Console
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from qatplan.sweeping.progress.tensorboard import name_of
    from qatplan.sweeping.run import sweep
    from qatplan.sweeping.specification import read

    out, logs, _, _ = watched
    rows = runs.read([out]).to_pylist()
    assert {path.name for path in logs.iterdir()} == {"sweep", *map(name_of, rows)}
    for row in rows:
        found = EventAccumulator(str(logs / name_of(row)))
        found.Reload()
        points = [(point.step, point.value) for point in found.Scalars("loss/train")]
        assert [step for step, _ in points] == [point["tokens"] for point in row["curve"]]
        assert [value for _, value in points] == pytest.approx([point["loss"] for point in row["curve"]])
        if row["loss"] is not None:
            last = found.Scalars("loss/validation")[-1]
            assert (last.step, last.value) == (row["d_total"], pytest.approx(row["loss"]))
    # A later command adds what is missing, here all, and leaves what is there alone.
    later = logs.parent / "later"
    outcome = sweep(read(specification), out, device="cpu", workers=1, console=Console(file=io.StringIO()),
                    tensorboard=later)  # fmt: skip
    assert outcome.new_runs == 0
    assert {path.name for path in later.iterdir()} == {path.name for path in logs.iterdir()}


def test_lost_readers_and_unwritable_files_stop_nothing(specification: Path, tmp_path: Path) -> None:
    out, logs = tmp_path / "sweep", tmp_path / "logs"
    (logs / "sweep").mkdir(parents=True)
    process = command(specification, "--out", out, "--workers", 1, "--json-lines", "--tensorboard", logs)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["event"] == "start"
    process.stdout.close()
    # A folder in the place of the status, and a file in the place of the logs.
    (out / "status.json").unlink()
    (out / "status.json").mkdir()
    for path in (logs / "sweep").iterdir():
        path.unlink()
    (logs / "sweep").rmdir()
    logs.rmdir()
    logs.write_text("")
    errors = process.stderr.read()
    assert process.wait(timeout=300) == 0, errors
    assert runs.read([out]).num_rows == RUNS
    for words in ("--json-lines: events cannot be written (Broken pipe)", "status.json is a folder;",
                  f"--tensorboard {logs}: "):  # fmt: skip
        assert errors.count(words) == 1, errors
    with pytest.raises(DataError, match="damaged or of another version"):
        status_file.read(out)


def test_a_killed_driver_is_found_out(
    specification: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    process = command(specification, "--out", out, "--workers", 1, "--json-lines")
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["event"] != "done":
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + status_file.SILENT_SECONDS + 3)
    code, found = status_of(out, capsys)
    assert (code, found["state"]) == (5, "stopped")
    assert found["snapshot"]["state"] == "running", "its last word"
    assert main(["sweep", "--status", str(out)]) == 5
    assert "stopped: its driver is gone; repeat the command to go on" in capsys.readouterr().out
    # A clock that was set back does not bring it to life.
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert status_of(out, capsys)[1]["state"] == "stopped"
    (out / "status.json").unlink()
    code, found = status_of(out, capsys)
    assert (code, found["state"], found["snapshot"]) == (0, "unknown", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--status", "nowhere"], "--status nowhere holds no sweep; name the folder given to --out."),
        (["--status", "."], "--status . holds no sweep; name the folder given to --out."),
        (["--status", ".", "--out", "x"], "--status DIR stands alone, or with --json."),
        (["--json", "--json-lines", "s.toml"], "--json-lines goes with neither --json, --dry-run nor --status."),
        ([], "SPEC.toml is missing: name a specification, or a sweep's folder with --status."),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    assert capsys.readouterr().err == f"qatplan: {message}\n"


def test_logs_that_cannot_be_written_are_refused_first(specification: Path, tmp_path: Path) -> None:
    from rich.console import Console

    from qatplan.sweeping.run import sweep
    from qatplan.sweeping.specification import read

    (tmp_path / "logs").write_text("")
    with pytest.raises(UsageError, match=r"--tensorboard .* cannot be written: "):
        sweep(read(specification), tmp_path / "out", device="cpu", workers=1, console=Console(stderr=True),
              tensorboard=tmp_path / "logs")  # fmt: skip
    assert not list((tmp_path / "out").rglob("*.parquet"))
