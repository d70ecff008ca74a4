"""No command writes over what it reads, whatever path or link leads there, not with --force either."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from qatplan import runs
from qatplan.cli.app import main
from qatplan.errors import UsageError
from qatplan.storage.target import check_target

SETTING = "--params 100K --tokens 4M --bits 4"
RECIPE = f"{SETTING} --batch-tokens 64K --export yaml --force --export-out"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fit = (Path(__file__).parents[2] / "fits/qat-loss.json").read_bytes()
    for name in ("fit.json", "alone/fit.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(fit)
    table = runs.read([Path(__file__).parents[2] / "data/main/runs.parquet"]).slice(0, 60)
    for name in ("runs.parquet", "sweep/runs/a.parquet"):
        runs.write(table, name)
    Path("spec.toml").write_text("[corpus]\nname = 'sotu'\n[[grid]]\nwidths = 16\ntokens = 5120\n")
    return tmp_path


@pytest.mark.parametrize("way", ["itself", "link"])
@pytest.mark.parametrize(
    ("command", "read", "ending"),
    [
        ("import runs.parquet --force --out", "runs.parquet", ".parquet"),
        ("import sweep --force --out", "sweep/runs/a.parquet", ".parquet"),
        ("fit runs.parquet --bootstrap 0 --force --out", "runs.parquet", ".json"),
        ("runs runs.parquet --rows 'bits == 4' --force --compact", "runs.parquet", ".parquet"),
        ("runs sweep --force --compact", "sweep/runs/a.parquet", ".parquet"),
        ("plot frontier fit.json --force --out", "fit.json", ".svg"),
        ("plot residuals fit.json --runs runs.parquet --force --out", "runs.parquet", ".svg"),
        ("plot loss-curves sweep --force --out", "sweep/runs/a.parquet", ".svg"),
        ("report fit.json --force --out", "fit.json", ".html"),
        (f"recommend fit.json {RECIPE}", "fit.json", ".yaml"),
        (f"recommend fit.json --runs runs.parquet {RECIPE}", "runs.parquet", ".yaml"),
        (f"recommend --law qat-fraction --split fit.json {RECIPE}", "fit.json", ".yaml"),
        ("export spec.toml --sweep sweep --run a --force --out", "spec.toml", ".safetensors"),
        ("export spec.toml --sweep sweep --run a --force --out", "sweep/runs/a.parquet", ".safetensors"),
    ],
)
def test_what_is_read_is_not_replaced(
    home: Path, command: str, read: str, ending: str, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = read if way == "itself" else f"alone/other{ending}"
    if way == "link":
        Path(out).symlink_to(Path(read).absolute())
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert main([*shlex.split(command), out]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    if way == "link" or read.endswith(ending):
        assert "is among what the command reads" in said
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_another_spelling_and_a_hard_link_are_the_same_file(home: Path) -> None:
    os.link("runs.parquet", "alone/other.parquet")
    for out in ("alone/../runs.parquet", "gone/../runs.parquet", str(home / "runs.parquet"), "alone/other.parquet"):
        with pytest.raises(UsageError, match=r"is among what the command reads \(\./runs\.parquet\)"):
            check_target(out, reads=[None, "s3://bucket/runs", "gone", "./runs.parquet"], force=True)


def test_a_way_through_a_folder_that_is_not_there_leads_to_the_same_file(home: Path) -> None:
    before = (home / "runs.parquet").read_bytes()
    with pytest.raises(UsageError, match="exists; --force overwrites it"):
        check_target("gone/../runs.parquet")
    assert main(["fit", "sweep", "--bootstrap", "0", "--force", "--out", "gone/../runs.parquet"]) == 2
    assert (home / "runs.parquet").read_bytes() == before


def test_in_a_folder_that_is_read_only_what_is_no_table_is_replaced(home: Path) -> None:
    for name, allowed in (("a.svg", True), ("runs/a.parquet", False), ("sweep.json", False), ("new.parquet", True)):
        place = home / "sweep" / name
        if name != "new.parquet":
            place.touch()
        if allowed:
            assert check_target(place, reads=["sweep"], force=True) == place
        else:
            with pytest.raises(UsageError, match="is among what the command reads"):
                check_target(place, reads=["sweep"], force=True)


def test_a_fit_among_its_runs_is_fitted_again(home: Path) -> None:
    shutil.copy("fit.json", "sweep/fit.json")
    shutil.copy(Path(__file__).parents[2] / "data/main/runs.parquet", "sweep/runs/a.parquet")
    command = ["fit", "sweep", "--law", "chinchilla", "--bootstrap", "0", "--out", "sweep/fit.json"]
    assert main(command) == 2
    assert main([*command, "--force"]) in (0, 4)
    assert len((home / "sweep" / "fit.json").read_bytes()) < len((home / "fit.json").read_bytes())
