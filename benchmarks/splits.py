"""What each law's and rule's choice of the QAT fraction costs on the shipped curves, held out in three ways.

    python benchmarks/splits.py [RUNS ...] [--rows EXPRESSION] [--effects KIND] [--bootstrap K]

By default RUNS are data/main and data/more-fractions. It is `qatplan compare --score split --details`, timed, and which
fractions were named.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import qatplan as qp
from qatplan.wording.text import to_text

DATA = Path(__file__).parents[1] / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=[DATA / "main", DATA / "more-fractions"], metavar="RUNS")
    parser.add_argument("--rows", metavar="EXPRESSION")
    parser.add_argument("--effects", choices=["none", "trunk", "curve", "auto"], default="none")
    parser.add_argument("--bootstrap", type=int, default=0, metavar="K")
    given = parser.parse_args()
    begin = time.process_time()
    compared = qp.compare(given.runs, score="split", rows=given.rows, effects=given.effects, bootstrap=given.bootstrap)
    print(to_text(compared.sections(details=True)))
    named = compared.to_frame().groupby(["way", "name"], sort=False)["fraction"].describe()[["min", "50%", "max"]]
    print(f"\nFractions named: smallest, median and largest\n{named.round(3).to_string(header=False)}")
    print(f"\n{time.process_time() - begin:.0f} seconds of one core")


if __name__ == "__main__":
    main()
