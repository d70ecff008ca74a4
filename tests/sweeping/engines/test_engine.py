"""Sweeps for real: complete, interrupted, killed, damaged, contested; the table is the same bit for bit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.specifications import written
from support.sweeps import command, console, is_worker, processes_of, wait_for_rows

from qatplan import runs
from qatplan.cli.app import main
from qatplan.errors import UsageError
from qatplan.sweeping.run import Outcome, sweep
from qatplan.sweeping.specification import read

GRIDS = """
[[grid]]
widths = 16
tokens = ["12800", "25600"]
bits = [2, 4]
fractions = [0, 0.1, 0.5, 1]
schedules = ["classic", "fused"]
[[grid]]
widths = 16
tokens = 12800
trunk_learning_rates = 1e3
[[grid]]
widths = 16
tokens = 25600
bits = [4, 16]
fractions = [0, 0.5]
cooldowns = [0.2, 0.5]
qat_decays = [1, 0.5]
qat_learning_rates = { 4 = 1, 16 = 0.3 }
"""
# The last grid adds a control, a rounding and three runs at 4 bits, and four at 16.
RUNS = 2 + 2 * 2 * (2 + 2 * 2) + 1 + 1 + 1 + 3 + 4


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("specification"), GRIDS)


@pytest.fixture(scope="module")
def undisturbed(specification: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, pa.Table]:
    out = tmp_path_factory.mktemp("sweep") / "undisturbed"
    outcome = sweep(read(specification), out, device="cpu", workers=1, console=console())
    return outcome, runs.read([out])


def test_every_run_is_a_row(undisturbed: tuple[Outcome, pa.Table]) -> None:
    outcome, table = undisturbed
    assert outcome.runs == outcome.new_runs == table.num_rows == RUNS
    assert runs.validate(table) == []
    rows = table.to_pylist()
    schedules = [row["schedule"] for row in rows]
    assert {name: schedules.count(name) for name in set(schedules)} == {
        "full-precision": 4, "post-training": 5, "classic": 19, "fused": 8,
    }  # fmt: skip
    for row in rows:
        assert row["d_total"] == row["d_fp"] + row["d_qat"]
        if row["schedule"] == "full-precision":
            assert row["bits"] is None
            assert row["d_qat"] == 0
        if row["status"] == "finished":
            assert 0 < row["loss"] < 6
            assert row["bits_per_byte"] == pytest.approx(row["loss"] / 0.6931471805599453)
            assert row["curve"][-1]["tokens"] == row["d_total"]
    assert not list(outcome.folder.rglob("*.tmp"))
    assert not list((outcome.folder / "segments").glob("*")), "checkpoints nobody needs are gone"


def test_rows_say_how_both_phases_decayed(undisturbed: tuple[Outcome, pa.Table]) -> None:
    rows = undisturbed[1].to_pylist()
    controls = [row for row in rows if row["bits"] == 16]
    lengths = sorted((row["cooldown"], row["qat_decay"]) for row in controls)
    assert lengths == [(0.2, 0.5), (0.2, 1), (0.5, 0.5), (0.5, 1)]
    for row in controls:
        assert (row["d_qat"], row["schedule"], row["qat_learning_rate"]) == (12800, "classic", 0.3)
        unset = ("quantizer", "granularity", "embedding_bits", "scale_learning_rate", "activation_bits")
        assert [row[name] for name in unset] == [None] * 5
    losses = {row["loss"] for row in controls}
    assert len(losses) == 4, "both lengths decide"
    best = min(row["loss"] for row in rows if row["bits"] == 4 and row["d_total"] == 25600)
    assert max(losses) < best + 0.3
    assert all((row["qat_decay"] is None) == (row["d_qat"] == 0) for row in rows)


def test_quantized_runs_relate_as_they_must(undisturbed: tuple[Outcome, pa.Table]) -> None:
    table = undisturbed[1]
    first = pc.and_(pc.equal(table["status"], "finished"), pc.equal(table["cooldown"], 0.2))
    finished = table.filter(pc.and_(first, pc.fill_null(pc.equal(table["qat_decay"], 1.0), True))).to_pylist()
    loss = {(row["d_total"], row["bits"], row["schedule"], row["d_qat"]): row["loss"] for row in finished}
    for d_total in {row["d_total"] for row in finished}:
        control = loss[d_total, None, "full-precision", 0]
        for bits in (2.0, 4.0):
            assert control < loss[d_total, bits, "post-training", 0]
        assert loss[d_total, 2.0, "classic", d_total // 2] < loss[d_total, 2.0, "post-training", 0]


def test_a_divergent_run_is_a_row_and_the_sweep_goes_on(undisturbed: tuple[Outcome, pa.Table]) -> None:
    outcome, table = undisturbed
    diverged = table.filter(pc.equal(table["status"], "diverged")).to_pylist()
    assert outcome.diverged == len(diverged) == 1
    assert diverged[0]["loss"] is None
    assert diverged[0]["curve"], "with its curve"


def test_repeating_trains_nothing_and_other_sweeps_are_refused(
    undisturbed: tuple[Outcome, pa.Table], specification: Path, tmp_path: Path
) -> None:
    folder = undisturbed[0].folder
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    again = sweep(read(specification), folder, device="cpu", workers=2, console=console())
    assert again.new_runs == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before
    other = tmp_path / "other.toml"
    (tmp_path / "text.txt").write_text((specification.parent / "text.txt").read_text())
    other.write_text(
        specification.read_text()
        .replace("0.5, 1]", "0.4, 1]")
        .replace('"text.txt"', f'"{specification.parent}/text.txt"')
    )
    with pytest.raises(UsageError, match=r"belongs to another specification: grids 1\.fractions differs"):
        sweep(read(other), folder, device="cpu", workers=2, console=console())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("precious")
    with pytest.raises(UsageError, match="not empty and holds no sweep"):
        sweep(read(specification), tmp_path / "full", device="cpu", workers=2, console=console())
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.doc"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_drivers_and_workers_change_nothing(
    undisturbed: tuple[Outcome, pa.Table], specification: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    driver = command(specification, out)
    wait_for_rows(out, 4, driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 60
    while processes_of(driver.pid):
        assert time.monotonic() < deadline, "no orphan remains"
        time.sleep(0.1)

    driver = command(specification, out, workers=1)
    wait_for_rows(out, 12, driver)
    workers = [pid for pid in processes_of(driver.pid) if pid != driver.pid and is_worker(pid)]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert runs.digest(runs.read([out])) == runs.digest(undisturbed[1])
    assert not list(out.rglob("*.tmp"))


def test_ctrl_c_says_how_to_go_on_and_the_lock_keeps_others_out(
    undisturbed: tuple[Outcome, pa.Table], specification: Path, tmp_path: Path
) -> None:
    out = tmp_path / "interrupted"
    driver = command(specification, out)
    wait_for_rows(out, 2, driver)
    os.killpg(driver.pid, signal.SIGSTOP)  # so that it is not finished before the other asks
    with pytest.raises(UsageError, match="in use by another sweep"):
        sweep(read(specification), out, device="cpu", workers=1, console=console())
    os.killpg(driver.pid, signal.SIGCONT)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 5
    assert "repeat the command to go on" in errors
    assert "Traceback" not in errors
    victim = sorted((out / "runs").glob("*.parquet"))[0]
    data = bytearray(victim.read_bytes())
    # Of the length of what the file says of itself: a bit in the middle may be one that nothing reads.
    data[-7] ^= 4
    victim.write_bytes(data)
    outcome = sweep(read(specification), out, device="cpu", workers=1, console=console())
    (remark,) = outcome.set_aside
    assert remark.startswith(f"{victim} ")
    assert remark.endswith(f"it is now {victim.name}.damaged.")
    assert victim.exists()
    assert runs.digest(runs.read([out])) == runs.digest(undisturbed[1])


def test_mistakes_are_one_sentence_before_any_training(
    specification: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.toml").write_text(specification.read_text().replace("widths = 16", "widths = 17"))
    (tmp_path / "text.txt").write_text("text")
    assert main(["sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "out"), "--workers", "2"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip() == "qatplan: grid 1: widths: width 17 is not a multiple of 8 from 16 to 1024."
    assert not (tmp_path / "out").exists()


def test_too_little_disk_is_said_first(specification: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    with pytest.raises(UsageError, match=r"9\.54 MiB free on its disk; the sweep may need"):
        sweep(read(specification), tmp_path / "out", device="cpu", workers=1, console=console())
    assert not list((tmp_path / "out").rglob("*.parquet"))
