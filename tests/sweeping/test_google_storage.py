"""A sweep in Google Cloud Storage, against a server on loopback: the table of a local one, also after damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console
from support.object_store import google_bucket
from support.specifications import written

from qatplan import runs
from qatplan.errors import UsageError
from qatplan.storage import lease
from qatplan.storage.open import open_storage
from qatplan.sweeping.run import sweep
from qatplan.sweeping.specification import read

GRIDS = """
[[grid]]
widths = 16
tokens = 5120
bits = 4
fractions = [0, 0.5]
"""


def test_a_sweep_in_a_google_bucket_gives_the_local_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QATPLAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.01)
    specification = read(written(tmp_path, GRIDS))
    silent = Console(file=open(os.devnull, "w"))  # noqa: SIM115
    sweep(specification, tmp_path / "local", device="cpu", workers=1, console=silent)
    local = runs.digest(runs.read(tmp_path / "local"))
    with google_bucket("sweeps") as options:
        out = f"gs://anonymous@sweeps/first/sweep{options}"
        storage = open_storage(out)
        with storage.hold(), pytest.raises(UsageError, match="is in use by another sweep command"):
            sweep(specification, out, device="cpu", workers=1, console=silent)
        sweep(specification, out, device="cpu", workers=1, console=silent)
        assert runs.digest(runs.read(out)) == local
        victim = min(storage.names("runs"))
        storage.write(f"runs/{victim}", storage.read(f"runs/{victim}")[:-100])
        mended = sweep(specification, out, device="cpu", workers=1, console=silent)
        assert mended.new_runs == 1
        assert [victim in remark for remark in mended.set_aside] == [True]
        assert runs.digest(runs.read(out)) == local
        assert "lock.json" not in storage.names(), "no lease is left"
