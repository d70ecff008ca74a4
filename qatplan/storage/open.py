"""From a location as a user writes it to its storage."""

from __future__ import annotations

from pathlib import Path

from qatplan.errors import UsageError
from qatplan.storage.base import Location, Storage, is_remote
from qatplan.storage.local import LocalStorage
from qatplan.storage.object_store import ObjectStorage

SCHEMES = ("s3", "gs")


def open_storage(location: Location) -> Storage:
    """The storage of a location; UsageError for a URL of an unknown kind. Nothing is contacted yet."""
    if not is_remote(location):
        return LocalStorage(Path(location))
    url = str(location)
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        allowed = " or ".join(f"{name}://bucket/folder" for name in SCHEMES)
        raise UsageError(f"{url} is not a place for a sweep: it must be a local folder or {allowed}.")
    return ObjectStorage(url)
