"""`python -m qatplan` is `qatplan`."""

import os
import sys

# Python puts the current folder before all others. A `queue.py` that lies there is no part of ours.
if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) == os.getcwd():
    sys.path.append(sys.path.pop(0))

from qatplan.cli.app import main

sys.exit(main())
