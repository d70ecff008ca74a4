"""Folders of killed commands are removed by the next one, those of living commands and of others never."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from qatplan.sweeping.engines.private_folder import PREFIX, PrivateFolder

KILLED = """
import os
from qatplan.sweeping.engines.private_folder import PrivateFolder
folder = PrivateFolder()
(folder.path / "r").mkdir()
print(folder.path, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_folder_of_a_killed_command_is_removed_by_the_next(tmp_path: Path) -> None:
    living = PrivateFolder()
    left = Path(subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True).stdout.strip())
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    users, link = Path(f"/tmp/{PREFIX}mine-{os.getpid()}"), Path(f"/tmp/{PREFIX}link-{os.getpid()}")
    users.mkdir(mode=0o700)
    (tmp_path / "lock").touch()
    link.symlink_to(tmp_path)
    try:
        mine = PrivateFolder()
        assert not left.exists()
        assert all(path.exists() for path in (living.path, mine.path, users, tmp_path / "lock"))
        mine.remove()
        living.remove()
        assert not mine.path.exists()
        assert not living.path.exists()
    finally:
        users.rmdir()
        link.unlink()
