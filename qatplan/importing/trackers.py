"""Runs straight from an experiment tracker, read by its own client: `mlflow:URI` and `wandb:ENTITY/PROJECT`.

The client finds and keeps the credentials; no name or password of an address is repeated in what is said about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from qatplan.errors import DataError, MissingExtra, UsageError, first_line, shorten
from qatplan.importing.content import Bound

_PAGE = 500
"""Runs asked for at a time."""


def is_tracker(source: str) -> bool:
    """Whether a source is the address of a tracker and no file."""
    return source.startswith(("mlflow:", "wandb:"))


def read_tracker(source: str, bound: Bound) -> list[Mapping[str, Any]]:
    """The runs at the address of a tracker, with the columns of its exported tables.

    `mlflow:URI` has the runs of all experiments of a tracking server or store, `mlflow:URI#NAME` those of one.
    Raises MissingExtra without the client, UsageError for no address, DataError where the tracker gives no runs.
    """
    kind, _, place = source.partition(":")
    rows: list[Mapping[str, Any]] = []
    try:
        for row in (_mlflow if kind == "mlflow" else _wandb)(place):
            bound.add(1, len(row))
            rows.append(row)
    except ImportError:
        raise MissingExtra(f'{source} needs the {kind} extra: pip install "qatplan[{kind}]".') from None
    except (DataError, UsageError):
        raise
    except Exception as error:
        # The client's errors are of many kinds; all say that it could not read.
        if "MLFLOW_ALLOW_FILE_STORE" in str(error):
            # It is long, and the cure stands at its end.
            cure = "this MLflow reads a folder of files only with MLFLOW_ALLOW_FILE_STORE=true in the environment"
            raise DataError(f"{source} cannot be read: {cure}.") from error
        raise DataError(f"{source} cannot be read: {shorten(first_line(error), 150)}.") from error
    if not rows:
        raise DataError(f"{source} has no runs.")
    return rows


def _mlflow(place: str) -> Iterator[Mapping[str, Any]]:
    from mlflow.tracking import MlflowClient

    uri, _, name = place.partition("#")
    if not uri:
        raise UsageError("mlflow: names no place; write mlflow:URI, such as mlflow:http://localhost:5000.")
    path = _local_path(uri)
    if path is not None and not path.exists():
        # The client would make it.
        raise DataError(f"mlflow:{uri} cannot be read: {path} does not exist.")
    client = MlflowClient(tracking_uri=uri)
    known = list(_pages(client.search_experiments))
    wanted = [experiment for experiment in known if not name or experiment.name == name]
    if not wanted:
        names = ", ".join(experiment.name for experiment in known[:10])
        raise DataError(f"mlflow:{uri} has no experiment '{name}'; it has {names or 'none'}.")
    names_of = {experiment.experiment_id: experiment.name for experiment in wanted}
    for run in _pages(client.search_runs, list(names_of)):
        ended = run.info.end_time
        yield {
            "run_id": run.info.run_id,
            "experiment_id": run.info.experiment_id,
            "experiment": names_of[run.info.experiment_id],
            "status": run.info.status,
            "run_name": run.info.run_name,
            "end_time": None if ended is None else datetime.fromtimestamp(ended / 1000, UTC).isoformat(),
            **{f"params.{key}": value for key, value in run.data.params.items()},
            **{f"metrics.{key}": value for key, value in run.data.metrics.items()},
            **{f"tags.{key}": value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
        }


def _local_path(uri: str) -> Path | None:
    """The folder or database of a store on this machine; None for any other address."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return Path(parts.path.removeprefix("/"))
    # A bare `databricks` is a server, which the client finds in its own settings.
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and uri != "databricks" else None


def _pages(search: Any, *what: Any) -> Iterator[Any]:
    """All that a paged search of MLflow finds."""
    token = None
    while True:
        page = search(*what, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _wandb(place: str) -> Iterable[Mapping[str, Any]]:
    import wandb

    if place.count("/") != 1 or not all(place.split("/")):
        raise UsageError(f"wandb:{place} names no project; write wandb:ENTITY/PROJECT.")
    # Lazy runs would be asked for one by one.
    for run in wandb.Api().runs(place, per_page=_PAGE, lazy=False):
        yield {
            "name": run.name,
            "id": run.id,
            "state": run.state,
            "config": {key: value for key, value in run.config.items() if not key.startswith("_")},
            "summary": dict(run.summary_metrics),
        }
