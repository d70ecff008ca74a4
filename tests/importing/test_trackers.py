"""Runs read from trackers: MLflow's own client on its own folder and server, W&B's on recorded answers of its API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from qatplan.cli.app import main
from qatplan.errors import DataError, MissingExtra, UsageError
from qatplan.importing.importer import import_runs
from qatplan.importing.source import read_source

SETTINGS = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def fill(uri: str) -> None:
    """Two experiments: three runs of a precision study, one of them unfinished, and one other run."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    study = client.create_experiment("study")
    for name, bits, loss, status in (
        ("a", "bf16", 3.1, "FINISHED"), ("b", "W4A16", 3.2, "FINISHED"), ("c", "W2A16", 3.9, "FAILED"),
    ):  # fmt: skip
        run = client.create_run(study, run_name=name).info.run_id
        for key, value in {"n_params": 10**6, "tokens": 10**8, "format": bits, "fraction": 0.2}.items():
            client.log_param(run, key, value)
        # Of a metric that was logged twice, the last value counts.
        client.log_metric(run, "val_loss", loss + 1, step=1)
        client.log_metric(run, "val_loss", loss, step=2)
        client.set_terminated(run, status)
    client.create_run(client.create_experiment("other"))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """MLflow's own server on loopback, with its runs in a database."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = (
        "--backend-store-uri",
        f"sqlite:///{folder}/runs.db",
        "--default-artifact-root",
        str(folder / "artifacts"),
    )
    command = (sys.executable, "-m", "mlflow", "server", *places, "--port", str(port), "--workers", "1")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module", params=["folder", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store with the runs of `fill`."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        uri = stack.enter_context(server(folder)) if request.param == "server" else (folder / "mlruns").as_uri()
        fill(uri)
        yield uri


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


def test_runs_of_an_experiment_come_in_like_its_exported_table(store: str) -> None:
    made = import_runs(f"mlflow:{store}#study")
    assert made.origin == "mlflow"
    assert made.rows_read == 3
    rows = sorted(made.table.select(["n_total", "d_total", "bits", "loss"]).to_pylist(), key=lambda row: row["loss"])
    assert rows == [
        {"n_total": 10**6, "d_total": 10**8, "bits": None, "loss": 3.1},
        {"n_total": 10**6, "d_total": 10**8, "bits": 4.0, "loss": 3.2},
    ]
    assert [objection.kind for objection in made.rejected] == ["unfinished"]
    assert len(read_source(f"mlflow:{store}").rows) == 4


def test_one_command_writes_the_table(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", f"mlflow:{store}#study", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["rows_written"], shown["out"]) == (2, "mlflow.runs.parquet")


def test_an_experiment_that_is_not_there_is_named_beside_those_that_are(store: str) -> None:
    with pytest.raises(DataError, match=r"no experiment 'studies'; it has .*study"):
        read_source(f"mlflow:{store}#studies")


@pytest.mark.parametrize("address", ["mlflow:", "wandb:project"])
def test_an_address_without_a_place_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", object())
    with pytest.raises(UsageError, match="names no"):
        read_source(address)


@pytest.mark.parametrize(("address", "module"), [("mlflow:http://x", "mlflow.tracking"), ("wandb:a/b", "wandb")])
def test_a_missing_client_names_its_extra(address: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'pip install "qatplan\[{address.split(":")[0]}\]"'):
        read_source(address)


def test_credentials_of_an_address_are_never_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "mlflow:nonsense://me:secret@host/x", "--out", str(tmp_path / "a.parquet")]) == 3
    printed = capsys.readouterr()
    assert "cannot be read" in printed.err
    assert "secret" not in printed.out + printed.err


ANSWER = """{"edges": [
 {"node": {"name": "abc123", "displayName": "q4", "state": "finished",
   "config": "{\\"n_params\\": {\\"value\\": 1000000, \\"desc\\": null}, \\"train_tokens\\": {\\"value\\": 100000000},
     \\"quantization\\": {\\"value\\": \\"W4A16\\"}, \\"fraction\\": {\\"value\\": 0.2}}",
   "summaryMetrics": "{\\"val/loss\\": 3.1, \\"_step\\": 100}"}},
 {"node": {"name": "def456", "displayName": "full", "state": "running",
   "config": "{\\"n_params\\": {\\"value\\": 1000000}, \\"train_tokens\\": {\\"value\\": 100000000}}",
   "summaryMetrics": "{\\"val/loss\\": 3.4}"}}
]}"""
"""What the public API answers to the query of a project's runs, in the client's query the part `project.runs`."""


class RecordedApi:
    """The client's door to a project, on the recorded answer: it unpacks the JSON and the values of settings."""

    def runs(self, path: str, *, per_page: int, lazy: bool) -> list[SimpleNamespace]:
        assert (path, lazy) == ("me/study", False)
        nodes = [edge["node"] for edge in json.loads(ANSWER, strict=False)["edges"]]
        return [
            SimpleNamespace(
                id=node["name"],
                name=node["displayName"],
                state=node["state"],
                config={key: cell["value"] for key, cell in json.loads(node["config"]).items()},
                summary_metrics=json.loads(node["summaryMetrics"]),
            )
            for node in nodes
        ]


def test_runs_of_a_project_come_in_like_its_exported_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=RecordedApi))
    made = import_runs("wandb:me/study")
    assert made.origin == "wandb"
    (row,) = made.table.select(["n_total", "d_total", "d_qat", "bits", "loss"]).to_pylist()
    assert row == {"n_total": 10**6, "d_total": 10**8, "d_qat": 2 * 10**7, "bits": 4.0, "loss": 3.1}
    assert [(objection.row, objection.kind) for objection in made.rejected] == [(2, "unfinished")]


def test_a_folder_that_mlflow_refuses_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    with pytest.raises(DataError, match="only with MLFLOW_ALLOW_FILE_STORE=true in the environment"):
        read_source(f"mlflow:{tmp_path.as_uri()}")


def test_databricks_is_a_server_and_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where the client would look for credentials
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_source("mlflow:databricks")
    assert "does not exist" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["./nope", "file:nope", "{folder}/nope", "sqlite:///nope.db", "sqlite:///{folder}/nope.db"]
)
def test_a_store_that_is_not_there_is_named_and_not_made(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read: .*nope(\.db)? does not exist\.$"):
        read_source(f"mlflow:{address.format(folder=tmp_path)}")
    assert not list(tmp_path.iterdir())
