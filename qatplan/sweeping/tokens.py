"""The tokens of a sweep on this machine: in the sweep's own folder, or in a cache where that folder is far away.

Training maps tokens into memory, which an object store cannot serve. There the corpus is published beside the runs,
and every machine that trains keeps a copy, known by its digest.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path

from qatplan.errors import DataError, UsageError
from qatplan.storage.local import LocalStorage
from qatplan.sweeping.folder import SweepFolder
from qatplan.training.corpus.corpus import TOKEN_FILES, CorpusInfo, Source, is_sound, parse_info, prepare, read_info

INFO = "corpus.json"
FILES = (*(f"{name}.bin" for name in TOKEN_FILES), INFO)
"""The one that says the others are whole comes last."""


def prepare_tokens(source: Source, folder: SweepFolder) -> CorpusInfo:
    """The corpus of a sweep, its tokens on this machine and every one of them checked.

    What is there is used; what is absent or damaged is made from `source` again, and DataError says so if the text has
    changed since the sweep began.
    """
    storage = folder.storage
    if isinstance(storage, LocalStorage):
        place = storage.path / "corpus"
        if not is_sound(place):
            (place / INFO).unlink(missing_ok=True)
        info = prepare(source, place)
    else:
        info = _remote(source, folder)
    if folder.corpus_digest() not in (None, info.digest):
        raise DataError(f"corpus {info.label} is not the text it was when the sweep in {folder.location} began.")
    return info


def _remote(source: Source, folder: SweepFolder) -> CorpusInfo:
    known = folder.corpus_digest()
    if known is not None:
        try:
            return read_info(local_tokens(folder, known))
        except DataError:
            pass  # absent or damaged there: made again below, and compared with what the sweep began with
    fresh = _scratch()
    info = prepare(source, fresh)
    place = cache() / info.digest
    _keep(fresh, place)
    for name in FILES:
        folder.storage.write(f"corpus/{name}", (place / name).read_bytes())
    return info


def local_tokens(folder: SweepFolder, digest: str) -> Path:
    """The local folder of a sweep's tokens; fetched where this machine has none. DataError if they are not `digest`."""
    storage = folder.storage
    if isinstance(storage, LocalStorage):
        return storage.path / "corpus"
    place = cache() / digest
    if not is_sound(place):
        fresh = _scratch()
        try:
            for name in FILES:
                (fresh / name).write_bytes(storage.read(f"corpus/{name}"))
        except FileNotFoundError as error:
            shutil.rmtree(fresh)
            raise DataError(f"{folder.location} lacks a file of its corpus: {error}.") from error
        _keep(fresh, place)
    if not is_sound(place) or read_info(place).digest != digest:
        raise DataError(f"the corpus of {folder.location} is damaged: its digest is not the recorded one.")
    return place


def found_tokens(folder: SweepFolder, digest: str | None = None) -> tuple[Path, CorpusInfo]:
    """The tokens of a sweep as they are found, by their digest where it is known; DataError if they are not sound."""
    if digest is None:
        if isinstance(folder.storage, LocalStorage):
            digest = read_info(folder.storage.path / "corpus").digest
        else:
            digest = parse_info(folder.storage.read(f"corpus/{INFO}"), folder.location).digest
    place = local_tokens(folder, digest)
    if not is_sound(place) or read_info(place).digest != digest:
        raise DataError(f"the corpus of {folder.location} is damaged; repeat the sweep command, which makes it again.")
    return place, read_info(place)


def recorded_tokens(folder: SweepFolder) -> tuple[Path, CorpusInfo]:
    """The tokens of a sweep that was made, only looked at; UsageError where there is no sweep."""
    if folder.is_new():
        raise UsageError(f"{folder.location} holds no sweep; name the folder given to --out.")
    return found_tokens(folder, folder.corpus_digest())


def cache() -> Path:
    """Where copies of remote corpora are kept; the variable QATPLAN_CACHE chooses another folder."""
    chosen = os.environ.get("QATPLAN_CACHE")
    if chosen:
        return Path(chosen) / "corpus"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "qatplan" / "corpus"


def _scratch() -> Path:
    fresh = cache() / f".{os.getpid()}.{secrets.token_hex(4)}.tmp"
    fresh.mkdir(parents=True)
    return fresh


def _keep(fresh: Path, place: Path) -> None:
    """Give a finished folder its name, unless another process was quicker with a sound one."""
    if is_sound(place):
        shutil.rmtree(fresh)
        return
    shutil.rmtree(place, ignore_errors=True)
    try:
        os.rename(fresh, place)
    except OSError:
        shutil.rmtree(fresh)
        if not is_sound(place):
            raise
