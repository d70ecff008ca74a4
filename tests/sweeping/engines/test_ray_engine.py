"""The Ray engine for real, on loopback: nodes and workers die, the driver is stopped; the table is the local one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.specifications import written
from support.sweeps import console, processes_of, wait_for_rows

from qatplan import runs
from qatplan.errors import MissingExtra, UsageError
from qatplan.sweeping.engines.engine import Event
from qatplan.sweeping.engines.gpu_share import SHARES
from qatplan.sweeping.engines.ray import RayEngine
from qatplan.sweeping.engines.ray_cluster import Cluster
from qatplan.sweeping.graph import Machine
from qatplan.sweeping.run import sweep
from qatplan.sweeping.specification import read

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
GRIDS = """
[[grid]]
widths = 16
tokens = ["12800"]
bits = [2, 4]
fractions = [0.25, 0.5, 1]
schedules = ["classic", "fused"]
"""


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("specification"), GRIDS, sequences=4)


@pytest.fixture(scope="module")
def local(specification: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The table as the local engine makes it."""
    out = tmp_path_factory.mktemp("sweep") / "local"
    sweep(read(specification), out, device="cpu", workers=2, console=console())
    return runs.read([out])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores and two nodes of one core each."""
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, **small)
        yield made
    finally:
        made.shutdown()


def command(specification: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "qatplan", "sweep", str(specification), "--out", str(out), "--engine", "ray"]
    return subprocess.Popen(
        [*words, *options, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def title(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text()
    except OSError:
        return ""


def stopped_in_a_segment(raylets: list[int], deadline: float) -> tuple[int, int]:
    """A raylet and its worker process, halted while it trains, so that what follows finds it there."""
    while True:
        assert time.monotonic() < deadline
        for raylet in raylets:
            for pid in map(int, Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()):
                if "ray::segment" in title(pid):
                    os.kill(pid, signal.SIGSTOP)
                    if "ray::segment" in title(pid):
                        return raylet, pid
                    os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)


@needs_ray
@needs_proc
def test_a_node_lost_in_mid_sweep_changes_nothing(
    cluster: Any, local: pa.Table, specification: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cluster"
    driver = command(specification, out, "--address", cluster.address, "--device", "cuda")
    output, errors = driver.communicate(timeout=120)
    sentence = "device cuda: no node of the Ray cluster offers a GPU; allowed here: auto, cpu."
    assert (driver.returncode, output, errors) == (2, "", f"qatplan: {sentence}\n")
    assert not (out / "sweep.json").exists()

    driver = command(specification, out, "--address", cluster.address)
    wait_for_rows(out, 1, driver)
    nodes = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    raylet, worker = stopped_in_a_segment(list(nodes), time.monotonic() + 120)
    cluster.remove_node(nodes[raylet], allow_graceful=False)
    os.kill(worker, signal.SIGKILL)
    output, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert "is tried again: its node was lost" in errors
    assert json.loads(output)["runs"] == local.num_rows, "nothing else on stdout"
    assert runs.digest(runs.read([out])) == runs.digest(local)
    assert not list(out.rglob("*.tmp"))
    assert not list((out / "segments").glob("*")), "checkpoints nobody needs are gone"


@needs_ray
@needs_proc
def test_ctrl_c_and_a_killed_worker_change_nothing_and_all_is_on_loopback(
    local: pa.Table, specification: Path, tmp_path: Path
) -> None:
    out = tmp_path / "one-machine"
    driver = command(specification, out, "--workers", "2")
    wait_for_rows(out, 1, driver)
    scratch = {path for path in Path("/tmp").glob("qatplan-ray-*") if str(path) in " ".join(map(title, family(driver)))}
    assert scratch
    assert listening(family(driver)) == {"127.0.0.1"}
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 5
    assert "repeat the command to go on" in errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 30
    while family(driver):
        assert time.monotonic() < deadline, "no orphan remains"
        time.sleep(0.1)
    assert not any(path.exists() for path in scratch)
    assert not list(out.rglob("*.tmp"))

    driver = command(specification, out, "--workers", "2")
    wait_for_rows(out, 4, driver)
    raylets = [pid for pid in family(driver) if "raylet/raylet" in title(pid)]
    _, worker = stopped_in_a_segment(raylets, time.monotonic() + 120)
    os.kill(worker, signal.SIGKILL)
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert "is tried again: its worker process died" in errors
    assert runs.digest(runs.read([out])) == runs.digest(local)


@needs_ray
@needs_proc
def test_a_task_trains_a_stack(local: pa.Table, specification: Path, tmp_path: Path) -> None:
    out = tmp_path / "stacked"
    driver = command(specification, out, "--workers", "2", "--stacked", "3")
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    found, expected = (table.sort_by("run_id") for table in (runs.read([out]), local))
    assert found["run_id"].equals(expected["run_id"])
    assert None in found["tokens_per_second"].to_pylist(), "of stacked runs nobody's own speed was measured"
    assert found["loss"].to_pylist() == pytest.approx(expected["loss"].to_pylist(), rel=0.01)


@needs_ray
def test_small_models_share_a_gpu(
    cluster: Any, local: pa.Table, specification: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray counts the GPUs that nodes say they have; that there is none shows in training alone, which is on the CPU."""
    cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
    engine = RayEngine(address=cluster.address, stacked=1)
    look, listen = engine.machine, engine.listen
    taken: list[float] = []

    def machine(device: str) -> Machine:
        found = look(device)
        engine._gpu_bytes = 80 * 2**30
        return found

    def listen_and_count() -> Iterable[Event]:
        import ray

        yield from listen()
        taken.append(1 - ray.available_resources().get("GPU", 0.0))

    monkeypatch.setattr(engine, "machine", machine)
    monkeypatch.setattr(engine, "listen", listen_and_count)
    out = tmp_path / "shared"
    sweep(read(specification), out, device="cpu", workers=2, console=console(), make_engine=lambda workers: engine)
    assert runs.digest(runs.read([out])) == runs.digest(local)
    assert max(taken) == pytest.approx(2 * SHARES[0]), "two at once, an eighth each"


def family(driver: subprocess.Popen[str]) -> list[int]:
    """All processes of the driver's session."""
    return processes_of(driver.pid)


def listening(pids: list[int]) -> set[str]:
    """The addresses on which processes accept TCP connections, from /proc."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                words = bytes.fromhex(fields[1].split(":")[0])
                # Four-byte words in the machine's order; the last is the address of an IPv4 socket.
                found.add(socket.inet_ntoa(words[-4:][::-1] if sys.byteorder == "little" else words[-4:]))
    return found


@needs_ray
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ray://head:10001", "is a Ray Client address; run the command on a node of the cluster with --address auto"),
        ("head", "--address head is neither HOST:PORT nor auto"),
        ("127.0.0.1:99999", "--address 127.0.0.1:99999 is neither HOST:PORT nor auto"),
        ("127.0.0.1:1", "--address 127.0.0.1:1: nothing answers there (Connection refused)"),
    ],
)
def test_addresses_where_no_cluster_is(address: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        RayEngine(address=address).machine("cpu")


@needs_ray
def test_the_folder_of_a_cluster_of_ones_own_is_private_and_removed() -> None:
    cluster = Cluster(None, 1)
    try:
        cluster.connect()
        assert cluster._scratch is not None
        folder = cluster._scratch.path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "r").is_dir()
    finally:
        cluster.close()
    assert not folder.exists()


def test_without_ray_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'--engine ray needs the ray extra: pip install "qatplan\[ray\]"\.$'):
        RayEngine()
