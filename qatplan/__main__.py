"""`python -m qatplan` is `qatplan`; what is sent to it while it loads its libraries ends it as documented."""

import os
import sys

# Python puts the current folder before all others. A `queue.py` that lies there is no part of ours, nor is a
# `msvcrt.py`, which most systems lack. So the folder is taken out, before any import but of what Python has loaded.
# Where qatplan itself lies there, it has been found.
if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) == os.getcwd():
    del sys.path[0]

import signal
from types import FrameType

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: an exception inside the import of a library may be swallowed there, or shown in pages."""
    trains = sys.argv[1:2] == ["sweep"]
    why = " before any segment began; repeat the command to go on" if trains else ""
    os.write(2, f"qatplan: interrupted{why}.\n".encode())
    os._exit(5 if trains else 130)


def run() -> None:
    """The command, as a process of its own."""
    # nohup and background shells have some of them ignored already, and so it stays.
    ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, _end)
    from qatplan.cli.app import main

    # A sweep has handlers of its own once its libraries are there. An exception can get lost in a callback of a
    # library, so only commands with something to tidy up are interrupted by one.
    if sys.argv[1:2] in (["demo"], ["export"]):
        for number in ours:
            signal.signal(number, signal.default_int_handler)
    code = main()
    if code == 130:
        # Where the interrupt met code that a library was just making, Python would end by the signal, not by the code.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
