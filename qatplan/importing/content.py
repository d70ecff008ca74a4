"""The bytes of a foreign file as text: decompressed within a bound, and decoded whatever program wrote them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from qatplan.errors import DataError
from qatplan.units import format_bytes

DEFAULT_LIMIT = 4 * 2**30
"""Bytes of memory that the rows of a table may take, unless more is allowed."""
_PER_ROW, _PER_CELL = 600, 80
"""Bytes of memory of a row and of a cell, about."""
_PER_BYTE = 8
"""Bytes of memory a byte of text, about."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Bound:
    """How much memory the rows of one file may take."""

    def __init__(self, file: Path, limit: int) -> None:
        self._file, self._limit, self._used = file, limit, 0

    def add(self, rows: int, cells: int) -> None:
        """Count rows and cells; DataError where they are too many."""
        self._used += rows * _PER_ROW + cells * _PER_CELL
        if self._used > self._limit:
            raise self.error()

    def error(self) -> DataError:
        """That the file is too large, and how to allow more."""
        return DataError(
            f"{self._file} needs more than {format_bytes(self._limit)} of memory as a table; leave out columns or rows "
            f"that are not needed, or allow more with --limit {format_bytes(2 * self._limit).replace(' ', '')}."
        )

    @property
    def bytes_of_text(self) -> int:
        """The most text that can be read."""
        return self._limit // _PER_BYTE


def text(file: Path, bound: Bound) -> str:
    """A file's text, also compressed with gzip or Zstandard, in UTF-8, UTF-16 or else Latin-1.

    Raises DataError where it is too large, ValueError where it is no text.
    """
    content = unpacked(file, bound)
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    if content[:200].count(b"\0"):
        # UTF-16 without its mark has a zero in every other byte of plain letters.
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        # Spreadsheets of Western Europe write Windows-1252; it has no character for five of the bytes.
        return content.decode("cp1252")


def unpacked(file: Path, bound: Bound) -> bytes:
    """A file's bytes, decompressed; DataError where they are too many."""
    most = bound.bytes_of_text
    with file.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        if start.startswith(_GZIP):
            with gzip.open(stream) as inner:
                content = inner.read(most + 1)
        elif start == _ZSTD:
            content = _unzstd(stream, most + 1)
        else:
            content = stream.read(most + 1)
    if len(content) > most:
        raise bound.error()
    return content


def _unzstd(stream: io.BufferedReader, most: int) -> bytes:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd") as inner:
        content: bytes = inner.read(most)
        return content
