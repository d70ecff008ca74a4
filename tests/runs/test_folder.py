"""Many files of one run each, and the merged copy of them: quick, and never more believed than the files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qatplan import runs
from qatplan.errors import DataError
from qatplan.runs import folder as run_folder
from qatplan.runs.folder import MERGED, Checked, Mark, check, merge
from qatplan.storage.local import LocalStorage


def row(name: str, **changes: Any) -> dict[str, Any]:
    base = {"run_id": name, "n_total": 100, "d_total": 50, "d_fp": 50, "d_qat": 0, "loss": 2.5, "status": "finished"}
    return {**base, "curve": [{"tokens": 25, "loss": 3.0}, {"tokens": 50, "loss": 2.6}], **changes}


def fill(folder: Path, names: str) -> LocalStorage:
    for number, name in enumerate(names):
        runs.write(runs.table([row(name, loss=2.5 + number)]), folder / "runs" / f"{name}.parquet")
    return LocalStorage(folder)


def losses(folder: Path) -> dict[str, float]:
    table = runs.read(folder)
    return dict(zip(table.column("run_id").to_pylist(), table.column("loss").to_pylist(), strict=True))


def test_a_merged_folder_reads_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = fill(tmp_path, "dbac")
    before = runs.read(tmp_path)
    checked = check(storage)
    assert (checked.unmerged, checked.bad) == (4, {})
    merge(storage, checked)
    assert check(storage).unmerged == 0
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "load", None)  # nothing may be read from the runs' own files
        assert runs.read(tmp_path).equals(before)
    runs.write(runs.table([row("bb", loss=9.0)]), tmp_path / "runs" / "bb.parquet")
    assert list(losses(tmp_path)) == ["a", "b", "bb", "c", "d"]
    assert check(storage).unmerged == 1


def test_the_files_have_the_last_word(tmp_path: Path) -> None:
    storage = fill(tmp_path, "abcd")
    merge(storage, check(storage))
    (tmp_path / "runs" / "a.parquet").unlink()
    assert list(losses(tmp_path)) == ["b", "c", "d"], "a run whose file is gone is gone"
    (tmp_path / "runs" / "b.parquet").write_bytes((tmp_path / "runs" / "b.parquet").read_bytes()[:-7])
    with pytest.raises(DataError, match=r"b\.parquet is damaged"):
        runs.read(tmp_path)
    data = bytearray((tmp_path / "runs" / "c.parquet").read_bytes())
    data[100] ^= 1
    (tmp_path / "runs" / "c.parquet").write_bytes(data)
    (tmp_path / "runs" / "e.parquet").write_bytes((tmp_path / "runs" / "d.parquet").read_bytes())
    checked = check(storage)
    assert checked.table.column("run_id").to_pylist() == ["d"]
    assert {name: problem.split(": ")[0].split("/")[-1] for name, problem in checked.bad.items()} == {
        "b": "b.parquet is damaged or not a Parquet file",
        "c": "c.parquet is damaged"
        if "is damaged:" in checked.bad["c"]
        else "c.parquet is damaged or not a Parquet file",
        "e": "e.parquet is foreign",
    }


@pytest.mark.parametrize("spoil", ["flipped", "truncated", "foreign"])
def test_a_spoilt_copy_is_named_and_not_used(tmp_path: Path, spoil: str) -> None:
    storage = fill(tmp_path, "abc")
    before = losses(tmp_path)
    merge(storage, check(storage))
    content = bytearray(storage.read(MERGED))
    if spoil == "flipped":
        # The end of a page: its header and the footer also hold what nobody reads.
        group = pq.ParquetFile(pa.BufferReader(bytes(content))).metadata.row_group(0)
        chunks = (group.column(index) for index in range(group.num_columns))
        chunk = next(chunk for chunk in chunks if chunk.path_in_schema == "loss")
        content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 16
    elif spoil == "truncated":
        content = content[:-100]
    else:
        content = bytearray(runs.encode(runs.table([row("x")])))
    storage.write(MERGED, bytes(content))
    assert losses(tmp_path) == before
    assert MERGED in check(storage).damage
    assert check(storage).unmerged == 3


def test_a_copy_that_is_absent_or_sound_has_no_problem(tmp_path: Path) -> None:
    storage = fill(tmp_path, "ab")
    assert check(storage).damage == ""
    merge(storage, check(storage))
    assert check(storage).damage == ""
    marks = json.dumps({"sizes": [1], "sha256": ["x"]})
    storage.write(MERGED, runs.encode(runs.table([row("a"), row("b")]), {"qatplan.files": marks}))
    assert "is no merged copy of a sweep's runs" in check(storage).damage


def test_problems_name_the_files_of_the_runs(tmp_path: Path) -> None:
    storage = fill(tmp_path, "abc")
    merge(storage, check(storage))
    other = tmp_path / "other.parquet"
    runs.write(runs.table([row(name, loss=9.0) for name in "cb"]), other)
    found, problems, _ = runs.inspect([tmp_path, tmp_path, other])
    assert found.num_rows == 5
    assert [(p.file, p.row) for p in problems] == [(other, 1), (other, 2)]
    assert [p.sentence.split(" here ")[1] for p in problems] == [
        f"(row 1 of {tmp_path / 'runs' / f'{name}.parquet'})." for name in "cb"
    ]


def test_ten_thousand_runs_are_read_in_a_second(tmp_path: Path) -> None:
    names = [f"{number:020x}" for number in range(10_000)]
    curve = [{"tokens": 100 * i, "loss": 5.0 - i / 20} for i in range(40)]
    table = runs.table([row(name, curve=curve) for name in names])
    (tmp_path / "runs").mkdir()
    for name in names:
        (tmp_path / "runs" / f"{name}.parquet").write_bytes(b"in place of a run")
    storage = LocalStorage(tmp_path)
    marks = [Mark.of(b"in place of a run")] * len(names)
    merge(storage, Checked(table=table, marks=marks, bad={}, unmerged=len(names)))
    started = time.process_time()
    read = runs.read(tmp_path)
    assert time.process_time() - started < 1
    assert read.equals(table)
    assert isinstance(read, pa.Table)
