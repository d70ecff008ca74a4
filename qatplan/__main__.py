"""`python -m qatplan` is `qatplan`."""

import sys

from qatplan.cli.app import main

sys.exit(main())
