"""Tables that unpack to more than is read are refused before they fill the memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qatplan.cli.app import main
from qatplan.errors import DataError
from qatplan.runs import files


def test_a_small_file_of_many_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"run_id": ["a" * 1000] * 100_000}), bomb)
    assert bomb.stat().st_size < 20_000
    monkeypatch.setattr(files, "LARGEST", 2**26)
    assert main(["runs", str(bomb)]) == 3
    assert "unpacks to more than 64 MiB" in capsys.readouterr().err


def test_what_the_footer_says_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"loss": [float(i) for i in range(10_000)]}), tmp_path / "a.parquet")
    monkeypatch.setattr(files, "LARGEST", 2**10)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)
    with pytest.raises(DataError, match="unpacks to more than 1 KiB"):
        files.load(tmp_path / "a.parquet")
