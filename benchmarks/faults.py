"""What happens to a sweep when everything goes wrong: after each fault the command is repeated, and the table must end
bit for bit as that of an undisturbed sweep, with no process and no temporary file left.

    python benchmarks/faults.py [--kills 200] [--rounds 20] [--minutes M] [--seed 0] [--only NAME ...]

Faults: SIGKILL to drivers and workers at random moments, frozen workers, workers out of memory, Ctrl-C and SIGTERM, a
full disk and a read-only one (on a small tmpfs; skipped where it cannot be mounted), truncated, flipped, emptied and
exchanged checkpoints and tables, a clock that runs backwards, two commands on one folder, and SIGKILL while TensorBoard
logs are written, which must end with one folder for each run. One run of the sweep diverges. Prints one line per fault
with the counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from qatplan import runs

SPECIFICATION = """
[corpus]
path = "text.txt"
[training]
sequence = 32
sequences = 8
warmup = "2K"
validation_tokens = "4K"
backend = "eager"
[[grid]]
widths = 16
tokens = {tokens}
bits = {bits}
fractions = {fractions}
schedules = ["classic", "fused"]
[[grid]]
widths = 16
tokens = 12800
trunk_learning_rates = 1e3
"""
# The command itself, but saving within segments and missing workers sooner than one would want in earnest.
DRIVER = (
    "import sys; from functools import partial; from qatplan import api; from qatplan.cli.app import main; "
    "from qatplan.sweeping import run; from qatplan.sweeping.engines.local import LocalEngine; run.SAVE_SECONDS = 0.1; "
    "api._engine = lambda *options: partial(LocalEngine, silence_seconds=40.0); sys.exit(main())"
)
BACKWARDS = """
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
static long earlier(void) {
    struct timespec up;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &up);
    return 1700000000 - 10 * up.tv_sec - 86400 * (up.tv_nsec % 7);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    long done = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec = earlier();
    return done;
}
int gettimeofday(struct timeval *now, void *zone) { now->tv_sec = earlier(); now->tv_usec = 0; return 0; }
time_t time(time_t *now) { time_t t = earlier(); if (now) *now = t; return t; }
"""
TRIES = 8


@dataclass
class Counts:
    """What a scenario did."""

    faults: int = 0
    commands: int = 0
    compared: int = 0
    notes: list[str] = field(default_factory=list)


class Campaign:
    """A specification, the table of its undisturbed sweep, and the means to disturb it."""

    def __init__(self, scratch: Path, *, seed: int, small: bool) -> None:
        self.scratch = scratch
        self.random = random.Random(seed)
        self.counts = Counts()
        self._folders = 0
        self.end_of_kills = float("inf")
        """When no more processes are killed, by the monotonic clock."""
        self.logged = False
        """Whether the commands also write TensorBoard logs."""
        lines = "\n".join(f"{n} green bottles, {n * n % 101} on the wall." for n in range(4000))
        (scratch / "text.txt").write_text(lines)
        self.specification = scratch / "sweep.toml"
        many = {"tokens": '["25600", "51200"]', "bits": "[2, 4]", "fractions": "[0, 0.1, 0.5, 1]"}
        few = {"tokens": "12800", "bits": "4", "fractions": "[0, 0.5]"}
        self.specification.write_text(SPECIFICATION.format(**(few if small else many)))
        folder = self.folder()
        started = time.monotonic()
        self.digest = None
        self.finish(folder)
        self.seconds = time.monotonic() - started
        self.table: pa.Table = runs.read(folder)
        self.digest = runs.digest(self.table)

    def folder(self) -> Path:
        """A new folder for a sweep."""
        self._folders += 1
        return self.scratch / f"sweep-{self._folders}"

    def start(self, out: Path, **variables: str) -> subprocess.Popen[str]:
        """The command, in a session of its own."""
        self.counts.commands += 1
        words = ["sweep", str(self.specification), "--out", str(out), "--workers", "2"]
        if self.logged:
            words += ["--tensorboard", str(logs_of(out))]
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **variables},
        )  # fmt: skip

    def end(self, driver: subprocess.Popen[str], *, allowed: tuple[int, ...] = (0, 5)) -> tuple[int, str]:
        """Wait for a command; its exit code must be allowed, its message one of ours, and no process may be left."""
        _, errors = driver.communicate(timeout=600)
        if driver.returncode != -signal.SIGKILL and driver.returncode not in allowed:
            raise AssertionError(f"exit {driver.returncode}: {errors}")
        if "Traceback" in errors or "internal error" in errors:
            raise AssertionError(errors)
        deadline = time.monotonic() + 60
        while left := processes_of(driver.pid):
            if time.monotonic() > deadline:
                raise AssertionError(f"left over: {left}")
            time.sleep(0.1)
        return driver.returncode, errors

    def finish(self, out: Path) -> str:
        """Repeat the command until it ends well and compare the table; returns what the commands said."""
        said = ""
        for _ in range(TRIES):
            code, errors = self.end(self.start(out))
            said += errors
            if code == 0:
                break
        else:
            raise AssertionError(f"still incomplete after {TRIES} commands: {said}")
        left = [str(path) for path in out.rglob("*.tmp")]
        left += [str(path) for path in (out / "segments").glob("*") if not path.name.endswith(".damaged")]
        if left:
            raise AssertionError(f"left over: {left}")
        if self.digest is not None:
            table = runs.read(out)
            if runs.digest(table) != self.digest:
                raise AssertionError(f"{out}: not the table of the undisturbed sweep: {differences(table, self.table)}")
            if self.logged:
                check_logs(logs_of(out), table.num_rows)
            self.counts.compared += 1
            shutil.rmtree(out, ignore_errors=True)
        return said

    def wait(self, out: Path, driver: subprocess.Popen[str], *, rows: int) -> bool:
        """Until so many rows are there; False if the command ended before."""
        while driver.poll() is None:
            if len(list((out / "runs").glob("*.parquet"))) >= rows:
                return True
            time.sleep(0.02)
        return False

    def wait_for_change(self, out: Path, driver: subprocess.Popen[str]) -> None:
        """Until a file of the sweep appears, changes its name or goes, or the command ends."""

        def names() -> list[str]:
            return sorted(path.name for folder in ("runs", "segments") for path in (out / folder).glob("*"))

        before = names()
        while driver.poll() is None and names() == before:
            time.sleep(0.01)

    def pause(self) -> None:
        """A random time within an undisturbed sweep."""
        time.sleep(self.random.uniform(0, self.seconds / 2))


def logs_of(out: Path) -> Path:
    """Where the TensorBoard logs of a sweep go."""
    return out.with_name(f"{out.name}-logs")


def check_logs(logs: Path, count: int) -> None:
    """Each run has one folder, with a file of events in it, beside that of the sweep; nothing half-written is left."""
    names = sorted(path.name for path in logs.iterdir() if any(path.glob("events.*")))
    if len(names) != count + 1 or "sweep" not in names or list(logs.glob(".*")):
        raise AssertionError(f"{logs}: not the logs of {count} runs: {sorted(os.listdir(logs))}")


def differences(found: pa.Table, expected: pa.Table) -> str:
    """Where two tables differ: runs that only one has, and by run the columns that differ."""
    left, right = ({row["run_id"]: row for row in table.to_pylist()} for table in (found, expected))
    said = [f"{name} is {'new' if name in left else 'missing'}" for name in sorted(left.keys() ^ right.keys())]
    for name in sorted(left.keys() & right.keys()):
        for column, value in left[name].items():
            if column not in runs.MEASURED and repr(value) != repr(right[name][column]):
                said.append(f"{name}: {column} is {value!r}, not {right[name][column]!r}")
    return "; ".join(said)


def processes_of(session: int) -> list[int]:
    """The living processes of a session, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def workers_of(driver: subprocess.Popen[str]) -> list[int]:
    """The worker processes of a command."""
    found = []
    for pid in processes_of(driver.pid):
        with contextlib.suppress(OSError):
            if b"engines.local import serve" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def kills(campaign: Campaign, count: int) -> None:
    """SIGKILL to a driver or a worker, as chance has it, just after something was written or at any moment.

    A finished sweep is followed by another.
    """
    struck = 0
    wanted: Callable[[], bool] = lambda: struck < count and time.monotonic() < campaign.end_of_kills  # noqa: E731
    while wanted():
        out = campaign.folder()
        driver = campaign.start(out)
        while wanted():
            if campaign.random.random() < 0.9:
                campaign.wait_for_change(out, driver)
                time.sleep(campaign.random.uniform(0, 0.3))
            else:
                campaign.pause()
            if driver.poll() is not None:
                break
            targets = workers_of(driver)
            if campaign.random.random() < 0.4 or not targets:
                driver.kill()
                struck += 1
                campaign.end(driver)
                driver = campaign.start(out)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(campaign.random.choice(targets), signal.SIGKILL)
                    struck += 1
        campaign.end(driver)
        campaign.finish(out)
    campaign.counts.faults += struck


def logged(campaign: Campaign, count: int) -> None:
    """SIGKILL as above, with TensorBoard on."""
    campaign.logged = True
    try:
        kills(campaign, count)
    finally:
        campaign.logged = False


def frozen(campaign: Campaign, count: int) -> None:
    """A worker stopped by SIGSTOP, as by a hanging disk: the command itself must notice and end well."""
    for _ in range(min(count, 3)):
        out = campaign.folder()
        driver = campaign.start(out)
        if campaign.wait(out, driver, rows=1) and (targets := workers_of(driver)):
            os.kill(targets[0], signal.SIGSTOP)
            campaign.counts.faults += 1
        campaign.end(driver, allowed=(0,))
        campaign.finish(out)


def memory(campaign: Campaign, count: int) -> None:
    """A worker that is suddenly allowed no more memory than it has: its segment is given to a new process."""
    for _ in range(count):
        out = campaign.folder()
        driver = campaign.start(out)
        if campaign.wait(out, driver, rows=campaign.random.randint(1, 4)):
            for pid in workers_of(driver)[:1]:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
                size = pages * resource.getpagesize()
                resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
                campaign.counts.faults += 1
        campaign.end(driver, allowed=(0,))
        campaign.finish(out)


def interrupts(campaign: Campaign, count: int) -> None:
    """Ctrl-C to the whole group, SIGTERM to the driver: nothing may be left right afterwards."""
    for number in range(count):
        out = campaign.folder()
        driver = campaign.start(out)
        campaign.wait(out, driver, rows=campaign.random.randint(1, 4))
        time.sleep(campaign.random.uniform(0, 0.3))
        if driver.poll() is None:
            campaign.counts.faults += 1
            if number % 2:
                driver.terminate()
            else:
                os.killpg(driver.pid, signal.SIGINT)
        campaign.end(driver)
        if list(out.rglob("*.tmp")):
            raise AssertionError("temporary files after an interrupt")
        campaign.finish(out)


def damage(campaign: Campaign, count: int) -> None:
    """Files spoilt between two commands: truncated, a bit flipped, emptied, or another file in their place."""
    for _ in range(count):
        out = campaign.folder()
        driver = campaign.start(out)
        campaign.wait(out, driver, rows=campaign.random.randint(2, 6))
        driver.kill()
        campaign.end(driver)
        for folder in ("runs", "segments"):
            files = sorted(path for path in (out / folder).iterdir() if not path.name.startswith("."))
            for victim in campaign.random.sample(files, min(len(files), 2)):
                spoil(campaign, victim, files)
        said = campaign.finish(out)
        if " is now " not in said:
            raise AssertionError(f"damage was not named: {said}")


def spoil(campaign: Campaign, victim: Path, others: list[Path]) -> None:
    """Damage one file in one of four ways."""
    content = bytearray(victim.read_bytes())
    other = campaign.random.choice(others)
    how = campaign.random.choice(["truncate", "flip", "empty", "foreign"])
    if how == "foreign" and other == victim:
        how = "flip"
    if how == "truncate":
        content = content[: campaign.random.randrange(len(content))]
    elif how == "flip":
        content[campaign.random.randrange(len(content))] ^= 1 << campaign.random.randrange(8)
    elif how == "empty":
        content = bytearray()
    else:
        content = bytearray(other.read_bytes())
    victim.write_bytes(content)
    campaign.counts.faults += 1


def clock(campaign: Campaign, count: int) -> None:
    """Every process is told a time that runs backwards and jumps by days; files seem to be of tomorrow."""
    source, library = campaign.scratch / "clock.c", campaign.scratch / "clock.so"
    source.write_text(BACKWARDS)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NotPossible("there is no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    tell = "import time; print(time.time())"
    told = [float(told_time(tell, library)) for _ in range(2)]
    if not told[1] < 1_700_000_000 > told[0]:
        raise NotPossible("the clock cannot be replaced here")
    for _ in range(min(count, 3)):
        out = campaign.folder()
        driver = campaign.start(out, LD_PRELOAD=str(library))
        campaign.wait(out, driver, rows=2)
        driver.kill()
        campaign.end(driver)
        for file in out.rglob("*"):
            os.utime(file, (time.time() + 86400,) * 2)
        campaign.counts.faults += 1
        campaign.end(campaign.start(out, LD_PRELOAD=str(library)), allowed=(0,))
        campaign.finish(out)


def told_time(code: str, library: Path) -> str:
    """What a process prints that asks for the time."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip


def two(campaign: Campaign, count: int) -> None:
    """Two commands at once: one is refused with 2 and a sentence, the other ends well."""
    for _ in range(count):
        out = campaign.folder()
        pair = [campaign.start(out), campaign.start(out)]
        ends = [campaign.end(driver, allowed=(0, 2)) for driver in pair]
        campaign.counts.faults += 1
        if sorted(code for code, _ in ends) != [0, 2] or "in use by another sweep" not in ends[0][1] + ends[1][1]:
            raise AssertionError(f"two at once: {ends}")
        campaign.finish(out)


def full_disk(campaign: Campaign, count: int) -> None:
    """A disk that fills up while the sweep runs; room is made before the command is repeated."""
    for _ in range(count):
        with small_disk(campaign) as disk:
            out = disk / "sweep"
            driver = campaign.start(out)
            campaign.wait(out, driver, rows=campaign.random.randint(1, 4))
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while True:
                    stream.write(b"\0" * 4096)
            campaign.counts.faults += 1
            campaign.end(driver)
            ballast.unlink()
            campaign.finish(out)


def read_only(campaign: Campaign, count: int) -> None:
    """A disk that turns read-only while the sweep runs, and is so when it is started again; then it is writable."""
    for _ in range(count):
        with small_disk(campaign) as disk:
            out = disk / "sweep"
            driver = campaign.start(out)
            campaign.wait(out, driver, rows=campaign.random.randint(1, 4))
            mount("-o", "remount,ro", str(disk), patient=True)
            campaign.counts.faults += 1
            campaign.end(driver, allowed=(0, 3, 5))
            code, said = campaign.end(campaign.start(out), allowed=(3,))
            if "cannot be written" not in said:
                raise AssertionError(f"exit {code}: {said}")
            mount("-o", "remount,rw", str(disk))
            campaign.finish(out)


class NotPossible(Exception):
    """A fault that cannot be made on this machine."""


def mount(*arguments: str, patient: bool = False) -> None:
    """Mount, or remount; a disk with a file open for writing cannot turn read-only, so that is tried again."""
    for _ in range(500 if patient else 1):
        if subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.01)
    raise NotPossible("a tmpfs cannot be mounted here")


@contextlib.contextmanager
def small_disk(campaign: Campaign) -> Iterator[Path]:
    """A tmpfs of 80 MiB."""
    disk = campaign.scratch / "disk"
    disk.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk))
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


SCENARIOS: dict[str, Callable[[Campaign, int], None]] = {
    "kills": kills, "frozen": frozen, "memory": memory, "interrupts": interrupts, "damage": damage, "clock": clock,
    "two": two, "full-disk": full_disk, "read-only": read_only, "tensorboard": logged,
}  # fmt: skip


def main() -> None:
    """Run the scenarios and print what each did."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--rounds", type=int, default=20, help="of every other fault (frozen and clock: at most 3)")
    options.add_argument("--minutes", type=float, default=float("inf"), help="of killing in all, if so many do not fit")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--small", action="store_true", help="a sweep of 5 runs instead of 27")
    options.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        campaign = Campaign(Path(scratch), seed=given.seed, small=given.small)
        campaign.end_of_kills = time.monotonic() + 60 * given.minutes
        statuses = campaign.table.column("status").to_pylist()
        print(f"undisturbed: {len(statuses)} runs, {statuses.count('diverged')} diverged, {campaign.seconds:.0f} s")
        print(f"{'fault':12} {'faults':>7} {'commands':>9} {'tables equal':>13} {'seconds':>8}", flush=True)
        for name in given.only:
            campaign.counts = Counts()
            started = time.monotonic()
            try:
                SCENARIOS[name](campaign, given.kills if name == "kills" else given.rounds)
            except NotPossible as reason:
                print(f"{name:12} skipped: {reason}", flush=True)
                continue
            counts = campaign.counts
            took = time.monotonic() - started
            print(f"{name:12} {counts.faults:7} {counts.commands:9} {counts.compared:13} {took:8.0f}", flush=True)


if __name__ == "__main__":
    main()
