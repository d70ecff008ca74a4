"""The slowdown of QAT from runs that differ in quantization alone."""

import pytest

from qatplan.errors import DataError
from qatplan.planning.evidence.slowdown import measured_slowdown


def run(
    speed: float | None, bits: float | None = None, n: int = 1000, d_qat: int = 10, **rest: object
) -> dict[str, object]:
    row = {"n_total": n, "device": "cpu", "tokens_per_second": speed, "bits": bits, "d_qat": d_qat if bits else 0}
    return {**row, **rest}


def test_median_ratio_within_each_setting() -> None:
    rows = [
        *(run(speed) for speed in (100.0, 110.0, 90.0)),
        *(run(speed, bits=4.0) for speed in (50.0, 40.0, 60.0)),
        run(30.0, n=9000),
        run(20.0, bits=2.0, n=9000),
        run(10.0, n=9000, device="cuda"),  # no QAT run beside it
        run(1.0, bits=4.0, d_qat=0),  # rounded after training
        run(None, bits=4.0),
    ]
    said = measured_slowdown(rows)
    assert said.factor == pytest.approx((2.0 + 1.5) / 2)
    assert (said.lowest, said.highest) == (1.5, 2.0)
    assert (said.settings, said.runs) == (2, 8)


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(DataError, match="no runs measure the slowdown"):
        measured_slowdown([run(100.0), run(50.0, bits=4.0, n=7)])
