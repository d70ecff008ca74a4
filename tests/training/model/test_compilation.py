"""Taking turns at compiling, and where compiled programs are kept; what they compute is in test_trainer.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qatplan.training.model import compilation

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_equal_programs_wait_and_others_do_not(cache: Path) -> None:
    order: list[str] = []

    def other(name: str) -> None:
        with compilation._turn(name):
            order.append(name)

    with compilation._turn("width 24"):
        waiting, free = (threading.Thread(target=other, args=(name,)) for name in ("width 24", "width 32"))
        waiting.start()
        free.start()
        free.join(timeout=30)
        waiting.join(timeout=0.2)
        assert order == ["width 32"]
        assert len(list(cache.glob("qatplan-*.lock"))) == 2
    waiting.join(timeout=30)
    assert order == ["width 32", "width 24"]


def test_a_worker_that_dies_while_compiling_frees_its_turn() -> None:
    code = (
        "import os\nfrom qatplan.training.model.compilation import _turn\n"
        "with _turn('width 24'):\n    print('mine', flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "mine\n"
    with compilation._turn("width 24"):
        pass


def test_a_worker_that_is_killed_leaves_no_semaphore(tmp_path: Path) -> None:
    """Python warns of one that is left, at the end of the process that started the worker."""
    (tmp_path / "killed.py").write_text(
        "import multiprocessing, os, torch\n"
        "from qatplan.training.model.compilation import compiled\n"
        "def work():\n"
        "    forward = compiled(lambda weights, tokens, targets: (weights[0] * tokens).sin(), 'p')\n"
        "    forward([torch.ones(8)], *torch.ones(2, 8))\n"
        "    print('compiled', flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=work)\n"
        "    worker.start()\n"
        "    worker.join()\n"
    )
    ended = subprocess.run([sys.executable, str(tmp_path / "killed.py")], capture_output=True, text=True, check=True)
    assert ended.stdout == "compiled\n"
    assert "leaked" not in ended.stderr
