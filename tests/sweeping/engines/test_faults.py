"""A short version of `benchmarks/faults.py`: what is not in `test_engine.py` already, once each."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.benchmarks import load


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    return load("faults")


@pytest.fixture(scope="module")
def campaign(faults: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return faults.Campaign(tmp_path_factory.mktemp("faults"), seed=1, small=True)


@pytest.mark.parametrize(("name", "count"), [("kills", 3), ("memory", 1), ("full-disk", 1), ("damage", 1)])
def test_after_a_fault_the_table_is_the_undisturbed_one(
    faults: ModuleType, campaign: Any, name: str, count: int
) -> None:
    campaign.counts = faults.Counts()
    try:
        faults.SCENARIOS[name](campaign, count)
    except faults.NotPossible as reason:
        pytest.skip(str(reason))
    assert campaign.counts.faults >= 1
    assert campaign.counts.compared >= 1
