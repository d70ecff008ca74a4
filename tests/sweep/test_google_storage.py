"""A sweep in Google Cloud Storage, against a server on loopback: the table of a local one, also after damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console
from support.object_store import google_bucket

from qatplan import runs
from qatplan.errors import UsageError
from qatplan.storage import lease
from qatplan.storage.open import open_storage
from qatplan.sweep.run import sweep
from qatplan.sweep.specification import read

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
tokens = 12800
bits = 4
fractions = [0, 0.5]
"""


def test_a_sweep_in_a_google_bucket_gives_the_local_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QATPLAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.01)
    (tmp_path / "text.txt").write_text("\n".join(f"{n} green bottles, {n * n % 101} on the wall." for n in range(4000)))
    (tmp_path / "sweep.toml").write_text(SPECIFICATION)
    specification = read(tmp_path / "sweep.toml")
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
