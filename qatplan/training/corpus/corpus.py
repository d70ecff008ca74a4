"""A corpus on disk: training and validation tokens, memory-mapped, and the batches drawn from them.

Folder: train.bin, validation.bin (uint8 for bytes, uint16 or uint32 for a tokenizer), corpus.json written last.
"""

from __future__ import annotations

import hashlib
import mmap
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatplan.errors import DataError, MissingExtra, UsageError
from qatplan.storage import atomic
from qatplan.storage.incoming import parse_json, read_bytes
from qatplan.storage.typed import parse
from qatplan.training.corpus.documents import file_documents, packaged_documents

VALIDATION_EVERY = 10
"""Every tenth document is held out: not the tail, which in a dated text is a shift in time."""
FEWEST_DOCUMENTS = 20
"""With fewer documents than this, they are cut into pieces so that a tenth can be held out."""
SEPARATOR = "\n\n"
TOKEN_FILES = ("train", "validation")
ITEM_TYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which text, and how it becomes tokens."""

    name: str | None = None
    """A packaged text (`qatplan.training.corpus.documents.PACKAGED`), or None for `path`."""
    path: str | None = None
    """A file or folder of .txt, .jsonl(.gz, .zst) or .parquet."""
    text_column: str = "text"
    tokenizer: str | None = None
    """A tokenizer.json of the `tokenizers` library; None means bytes."""


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """What corpus.json says."""

    label: str
    digest: str
    """SHA-256 of vocabulary size, training tokens and validation tokens."""
    vocabulary: int
    train_tokens: int
    validation_tokens: int
    bytes_per_token: float
    """Of the validation text; 1 for bytes. Turns nats per token into bits per byte."""
    item_type: str


def prepare(source: Source, folder: Path) -> CorpusInfo:
    """Tokenize `source` into `folder`, or return what is already there."""
    if (folder / "corpus.json").exists():
        return read_info(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if source.name is not None:
        documents, label = packaged_documents(source.name), source.name
    else:
        path = Path(str(source.path))
        documents, label = cut(file_documents(path, source.text_column)), path.name
    train, validation = split(documents)
    if not train or not validation:
        raise DataError(f"corpus {label} is empty.")
    vocabulary, encode = (256, _as_bytes) if source.tokenizer is None else _tokenizer_encoder(Path(source.tokenizer))
    train_tokens, validation_tokens = encode(train), encode(validation)
    for name, tokens in zip(TOKEN_FILES, (train_tokens, validation_tokens), strict=True):
        atomic.write_bytes(folder / f"{name}.bin", tokens.tobytes())
    item_type = str(train_tokens.dtype)
    info = CorpusInfo(
        label=label, digest=_digest(vocabulary, item_type, folder), vocabulary=vocabulary,
        train_tokens=len(train_tokens), validation_tokens=len(validation_tokens), item_type=item_type,
        bytes_per_token=len(SEPARATOR.join(validation).encode()) / len(validation_tokens),
    )  # fmt: skip
    atomic.write_json(folder / "corpus.json", asdict(info))
    return info


def _digest(vocabulary: int, item_type: str, folder: Path) -> str:
    digest = hashlib.sha256(f"{vocabulary}:{item_type}:".encode())
    for name in TOKEN_FILES:
        with open(folder / f"{name}.bin", "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def is_sound(folder: Path) -> bool:
    """Whether a folder holds a prepared corpus whose every token is the one recorded."""
    try:
        info = read_info(folder)
        return _digest(info.vocabulary, info.item_type, folder) == info.digest
    except (DataError, OSError):
        return False


def split(documents: list[str]) -> tuple[list[str], list[str]]:
    """Training documents and every tenth, held out."""
    validation = documents[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    return [document for number, document in enumerate(documents, 1) if number % VALIDATION_EVERY], validation


def cut(documents: Iterable[str]) -> list[str]:
    """The documents, or, if they are few, contiguous pieces of them that end at paragraphs where possible."""
    whole = [document.strip() for document in documents if document.strip()]
    if len(whole) >= FEWEST_DOCUMENTS or not whole:
        return whole
    size = max(1, sum(map(len, whole)) // (5 * FEWEST_DOCUMENTS))
    return [piece for document in whole for piece in _pieces(document, size)]


def _pieces(document: str, size: int) -> Iterator[str]:
    start = 0
    while start < len(document):
        end = start + size
        if end < len(document):
            paragraph = document.find("\n", end, end + size)
            end = paragraph if paragraph > 0 else end
        yield document[start:end]
        start = end


def read_info(folder: Path) -> CorpusInfo:
    """corpus.json of a prepared folder."""
    try:
        content = read_bytes(folder / "corpus.json")
    except OSError as error:
        raise DataError(f"{folder} is not a prepared corpus: {error}.") from error
    return parse_info(content, str(folder))


def parse_info(content: bytes, name: str) -> CorpusInfo:
    """What a corpus.json says; `name` is how errors call its folder."""
    try:
        info = parse(CorpusInfo, parse_json(content))
        if info.item_type not in ITEM_TYPES:
            raise ValueError(f"item_type is not one of {', '.join(ITEM_TYPES)}")
    except ValueError as error:
        raise DataError(f"{name} is not a prepared corpus: {error}.") from error
    return info


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus, opened; tokens are memory-mapped."""

    info: CorpusInfo
    train: NDArray[Any]
    validation: NDArray[Any]


def open_corpus(folder: Path) -> Corpus:
    """Map the tokens of a prepared folder; DataError if a file does not have the recorded length."""
    info = read_info(folder)
    arrays = []
    for name, count in (("train", info.train_tokens), ("validation", info.validation_tokens)):
        tokens = np.memmap(folder / f"{name}.bin", dtype=info.item_type, mode="r")
        if len(tokens) != count:
            raise DataError(f"{folder / name}.bin has {len(tokens)} tokens, {count} were recorded.")
        arrays.append(tokens)
    return Corpus(info, arrays[0], arrays[1])


def batch(corpus: Corpus, *, seed: int, step: int, sequences: int, length: int) -> NDArray[np.int64]:
    """Batch number `step`: (sequences, length + 1) tokens, a function of corpus, seed and step alone.

    Each epoch cuts the corpus into blocks at its own random offset and visits them in its own random order, so every
    token is seen once an epoch, and all branches of a trunk see the same data.
    """
    rows = np.empty((sequences, length + 1), dtype=np.int64)
    for row, start in enumerate(_starts(corpus, seed, step, sequences, length)):
        rows[row] = corpus.train[start : start + length + 1]
    return rows


def prefetch(corpus: Corpus, *, seed: int, step: int, sequences: int, length: int) -> None:
    """Have the system read what `batch` will need at `step` into memory; returns at once, and changes nothing else.

    Without it a text larger than memory, or not read before, makes a training step wait for the disk.
    """
    pages = corpus.train.base
    if not isinstance(pages, mmap.mmap) or sys.platform == "win32":
        return
    size = corpus.train.itemsize
    for start in _starts(corpus, seed, step, sequences, length):
        first = start * size // mmap.PAGESIZE * mmap.PAGESIZE
        pages.madvise(mmap.MADV_WILLNEED, first, (start + length + 1) * size - first)


def _starts(corpus: Corpus, seed: int, step: int, sequences: int, length: int) -> Iterator[int]:
    """Where each sequence of a batch begins in the training tokens."""
    blocks = blocks_per_epoch(corpus.info.train_tokens, length)
    for number in range(step * sequences, (step + 1) * sequences):
        epoch, place = divmod(number, blocks)
        offset, order = _epoch(corpus.info.train_tokens, seed, epoch, length)
        yield offset + int(order[place]) * length


def blocks_per_epoch(train_tokens: int, length: int) -> int:
    """How many sequences one epoch holds (one block is given up to the random offset)."""
    blocks = (train_tokens - 1) // length - 1
    if blocks < 1:
        raise UsageError(f"corpus has {train_tokens} training tokens, too few for sequences of {length}.")
    return blocks


@lru_cache(maxsize=4)
def _epoch(train_tokens: int, seed: int, epoch: int, length: int) -> tuple[int, NDArray[np.int32]]:
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    offset = int(generator.integers(length))
    return offset, generator.permutation(blocks_per_epoch(train_tokens, length)).astype(np.int32)


def validation_blocks(corpus: Corpus, *, tokens: int, length: int) -> NDArray[np.int64]:
    """The fixed validation set, the same for every run: (blocks, length + 1), spread evenly over the held-out text."""
    available = (len(corpus.validation) - 1) // length
    blocks = tokens // length
    if blocks < 2 or blocks > available:
        raise UsageError(
            f"corpus.validation_tokens {tokens} is not between {2 * length} and {available * length}, what is held out."
        )
    starts = (np.arange(blocks) * available // blocks) * length
    return np.stack([corpus.validation[start : start + length + 1] for start in starts]).astype(np.int64)


def _as_bytes(documents: list[str]) -> NDArray[Any]:
    return np.frombuffer(SEPARATOR.join(documents).encode(), dtype=np.uint8)


def _tokenizer_encoder(path: Path) -> tuple[int, Callable[[list[str]], NDArray[Any]]]:
    """The size of a tokenizer's vocabulary, and what makes tokens of documents."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra('corpus.tokenizer needs the bpe extra: pip install "qatplan[bpe]".') from error
    if not path.is_file():
        raise DataError(f"corpus.tokenizer {path} does not exist.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception for a malformed file
        raise DataError(f"corpus.tokenizer {path} is not a tokenizer.json of the tokenizers library.") from error
    vocabulary = int(tokenizer.get_vocab_size())
    item = np.uint16 if vocabulary <= 65536 else np.uint32

    def encode(documents: list[str]) -> NDArray[Any]:
        separated = [document + SEPARATOR for document in documents]
        return np.concatenate([np.asarray(e.ids, dtype=item) for e in tokenizer.encode_batch(separated)])

    return vocabulary, encode
