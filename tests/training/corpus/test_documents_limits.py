"""Text that comes packed is unpacked under a limit, and what is damaged is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from qatplan.errors import DataError
from qatplan.training.corpus.documents import file_documents

LINE = json.dumps({"text": "a" * 100_000}).encode() + b"\n"
MANY = LINE * 800


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.jsonl.zst", "bomb.parquet"])
def test_a_bomb_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(MANY))
    elif name.endswith(".zst"):
        file.write_bytes(zstandard.ZstdCompressor().compress(MANY))
    else:
        pq.write_table(pa.table({"text": ["a" * 100_000] * 800}), file)
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        list(file_documents(file, "text"))


def test_a_line_has_a_longest(tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_bytes(b"a" * (2**26 + 1))
    with pytest.raises(DataError, match="a line of more than 64 MiB"):
        list(file_documents(tmp_path / "long.jsonl", "text"))


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.jsonl.zst"])
def test_what_is_cut_short_is_named(name: str, tmp_path: Path) -> None:
    pack = gzip.compress if name.endswith(".gz") else zstandard.ZstdCompressor().compress
    (tmp_path / name).write_bytes(b"\0" * 40 + pack(LINE)[20:])
    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        list(file_documents(tmp_path / name, "text"))


def test_text_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE + '{"text": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2 is not a JSON object: it is not UTF-8"):
        list(file_documents(tmp_path / "a.jsonl", "text"))
