"""A private folder below the system's temporary one, which ends with its process or is removed by the next command."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "qatplan-ray-"
REMOVE_SECONDS = 5.0
_LOCK = "lock"


class PrivateFolder:
    """A folder that only this user can read (0700), until `remove`.

    A lock in it, which the system frees when its holder dies, tells those that killed commands have left: they are
    removed here.
    """

    def __init__(self) -> None:
        import fcntl

        # Not tempfile's default: the paths of Ray's sockets must stay below 100 characters.
        above = Path("/tmp" if os.name == "posix" else tempfile.gettempdir())
        for left in above.glob(f"{PREFIX}*"):
            _remove_if_left(left)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (self.path / _LOCK).exists():
                break
            os.close(self._lock)  # another command took it for one that was left

    def remove(self) -> None:
        """Delete it, although processes that are ending may still write into it."""
        end = time.monotonic() + REMOVE_SECONDS
        while self.path.exists() and time.monotonic() < end:
            shutil.rmtree(self.path, ignore_errors=True)
            time.sleep(0.05)
        os.close(self._lock)


def _remove_if_left(folder: Path) -> None:
    """Delete a folder of ours whose process is gone; one without a lock is just being made, or somebody else's."""
    import fcntl

    with suppress(OSError):
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            return
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
