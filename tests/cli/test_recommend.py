"""`qatplan recommend` as scripts and people meet it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qatplan.cli.app import main
from qatplan.laws import FittedLaw, QatLoss
from qatplan.laws.law import natural


@pytest.fixture
def fit(tmp_path: Path) -> str:
    """A fit whose coefficients are invented for the tests."""
    law = QatLoss(
        E=1.7, A=400.0, alpha=0.34, C=1000.0, beta=0.36, theta=0.5, kappa=1.2, phi=2.0, chi=0.8, psi=0.1, omega=0.4,
        lam=0.8, mu=0.3, nu=0.05, xi=0.4, rho=0.1,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    vectors = law.coordinates() * (1 + 0.01 * rng.standard_normal((300, 16)))
    draws = np.array([list(natural(law.parameters(), v).values()) for v in vectors])
    ranges = {"n": (1e8, 2e9), "d_total": (1e9, 1e12), "bits": (2.0, 4.0), "s_total": (5.0, 1e4)}
    path = tmp_path / "fit.json"
    FittedLaw(law=law, draws=draws, noise=1e-3, ranges=ranges, rows=10).write(path)
    return str(path)


def test_json_on_stdout_and_nothing_else(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", fit, "--memory", "4GiB", "--tokens", "1T", "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert captured.err == ""
    assert said["choice"]["memory_bytes"] <= 4 * 2**30
    assert said["choice"]["tokens"] == 10**12
    assert {o["bits"] for o in [said["choice"], *said["alternatives"]]} == {2, 3, 4}
    assert said["status"] == "good"


def test_one_screen_for_people_and_more_with_details(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", fit, "--params", "1.5B", "--tokens", "300B", "--bits", "2,4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Plan\n  Train 1.5B parameters at ")
    assert "10 % rule" in out
    assert "--details" in out
    assert main(["recommend", fit, "--params", "1.5B", "--tokens", "300B", "--bits", "2,4", "--details"]) == 0
    more = capsys.readouterr().out
    assert more.startswith("Recommendation\n  Train 1.5B parameters at ")
    assert more.count("\n") > out.count("\n")


def test_beyond_the_limit_the_object_is_printed_and_the_exit_is_4(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["recommend", fit, "--params", "100B", "--tokens", "1T", "--json"]
    assert main(arguments) == 4
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["status"] == "extrapolates"
    assert said["extrapolation"]["factor"] == pytest.approx(50)
    assert captured.err.count("\n") == 1
    assert main([*arguments, "--extrapolation-limit", "100"]) == 0


def test_fraction_alone_without_a_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["recommend", "--law", "qat-fraction", "--params", "1B", "--tokens", "50B", "--bits", "4", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["choice"]["fraction"] == pytest.approx(np.exp(-6.7297 / np.log(100)))
    assert said["choice"]["loss"] is None
    assert {"choice", "alternatives", "assumptions", "extrapolation", "status", "flags"} <= said.keys()


def test_every_option_reaches_the_plan(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--model llama-3.2-1b --fp-tokens 200B --tokens 20B --bits 4 --context 2048 --batch 2 --kv-format q8_0 "
        "--group-size 64 --embedding-bits 6 --device a100 --qat-slowdown 1.5 --price-per-hour 2 --sequence 2048 "
        "--mfu 0.5"
    )
    assert main(["recommend", fit, *options.split(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    choice = said["choice"]
    assert choice["params"] == 1_235_814_400
    assert (choice["fp_tokens"], choice["qat_tokens"]) == (200 * 10**9, 20 * 10**9)
    memory = said["memory"]
    assert (memory["format"], memory["context"], memory["batch"], memory["kv_format"]) == ("int4:g64", 2048, 2, "q8_0")
    assert next(i for i in memory["items"] if i["name"] == "embedding")["detail"] == "6 bits"
    cost = said["cost"]
    assert cost["gpu_hours"] == pytest.approx(1.5 * cost["flops"] / (312e12 * 0.5 * 3600))
    assert cost["money"] == pytest.approx(2 * cost["gpu_hours"])
    assert said["continuation"]["qat_tokens"] == 20e9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FIT", "--params", "1B", "--tokens", "4GB"], "number of bytes where a count is expected"),
        (["FIT", "--params", "0", "--tokens", "1B"], "not more than 0"),
        (["FIT", "--params", "1B", "--tokens", "-5"], "--tokens"),
        (["FIT", "--params", "1B", "--tokens", "nan"], "'nan'"),
        (["FIT", "--memory", "4B", "--tokens", "1B"], "which bytes"),
        (["FIT", "--memory", "0", "--tokens", "1B"], "memory is 0"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--bits", "2,x"], "bit widths"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--fraction", "nan"], "fraction is nan"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--target-loss", "-1"], "target loss is -1"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--mfu", "0"], "mfu is 0"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--device", "abacus"], "abacus"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--level", "nan"], "level is nan"),
        (["FIT", "--params", "1B", "--model", "llama-3.2-1b", "--tokens", "1B"], "params or a model"),
        (["FIT", "--tokens", "1B"], "nothing bounds the model's size"),
        (["FIT", "--params", "1B"], "nothing bounds the tokens"),
        (["FIT", "--params", "8B", "--memory", "1GiB", "--tokens", "1T"], "memory binds at 2 bits"),
        (["FIT", "--law", "chinchilla", "--params", "1B", "--tokens", "1B"], "holds law qat-loss"),
        (["--params", "1B", "--tokens", "1B"], "give a fit"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--export-out", "x"], "--export-out needs --export"),
        (["--law", "qat-loss", "--params", "1B", "--tokens", "1B"], "needs a fit"),
        (["--law", "magic", "--params", "1B", "--tokens", "1B"], "magic"),
        (["--law", "qat-fraction", "--params", "1B", "--tokens", "1B", "--bits", "8"], "S_total > 1"),
        (["--law", "qat-fraction", "--params", "1B", "--tokens", "9B", "--bits", "16"], "bits is 16"),
        (["--law", "qat-fraction", "--params", "1B", "--tokens", "9B", "--level", "0.9"], "level has no meaning"),
        (
            ["--law", "qat-fraction", "--params", "1B", "--tokens", "9B", "--extrapolation-limit", "5"],
            "extrapolation limit has no meaning",
        ),
        (["--law", "qat-fraction", "--params", "1B", "--tokens", "9B", "--tolerance", "0.1"], "tolerance"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--learning-rate", "1e-3"], "--learning-rate belongs"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--batch-tokens", "1M"], "--batch-tokens belongs"),
        (["FIT", "--params", "1B", "--tokens", "1B", "--bits", "16", "--fraction", "0.1"], "fraction has no meaning"),
        (["FIT", "--params", "1B", "--fp-tokens", "1B", "--bits", "16"], "the given model is there already"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(
    fit: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", *(fit if a == "FIT" else a for a in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_a_file_that_is_no_fit_is_unusable_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert main(["recommend", str(path), "--params", "1B", "--tokens", "1B"]) == 3
    assert "is not a qatplan fit" in capsys.readouterr().err


def test_nothing_heavy_is_loaded(fit: str) -> None:
    code = (
        "import sys; from qatplan.cli.app import main; "
        f"code = main(['recommend', {fit!r}, '--memory', '4GiB', '--tokens', '1T']); "
        "heavy = {'torch', 'pandas', 'scipy', 'matplotlib', 'pyarrow'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_runs_measure_the_slowdown_and_the_schedule(
    fit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from qatplan import runs

    common = {"n_total": 1000, "d_total": 100, "device": "cpu", "loss": 2.0, "status": "finished"}
    rows = [
        {**common, "run_id": "a", "d_fp": 100, "d_qat": 0, "tokens_per_second": 30.0},
        {
            **common,
            "run_id": "b",
            "d_fp": 50,
            "d_qat": 50,
            "bits": 4.0,
            "tokens_per_second": 20.0,
            "schedule": "classic",
        },
        {**common, "run_id": "c", "d_fp": 50, "d_qat": 50, "bits": 4.0, "schedule": "fused", "loss": 2.1},
    ]
    path = tmp_path / "runs.parquet"
    runs.write(runs.table(rows), path)
    arguments = ["recommend", fit, "--params", "1B", "--gpu-hours", "300", "--bits", "4", "--json"]
    assert main([*arguments, "--runs", str(path)]) == 0
    captured = capsys.readouterr()
    assert "1.500 times as long" in captured.err
    said = json.loads(captured.out)
    assert any("1.5 times as long" in line for line in said["assumptions"])
    assert (said["fused_cooldown"]["advised"], said["fused_cooldown"]["pairs"]) == (False, 1)
    assert main([*arguments, "--runs", str(path), "--qat-slowdown", "2"]) == 0
    assert any("2 times as long" in line for line in json.loads(capsys.readouterr().out)["assumptions"])


SHIPPED = str(Path(__file__).parents[2] / "fits/qat-loss.json")


def test_a_target_without_a_unit_is_asked_for_it_where_tokens_are_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", SHIPPED, "--memory", "400KiB", "--context", "64", "--target-loss", "2.1"]) == 2
    said = capsys.readouterr().err
    assert "target_loss 2.1 needs its unit" in said
    assert said.count("\n") == 1
    for unit in ("nats/token", "bits/byte"):
        assert f"'2.1 {unit}'" in said


def test_a_target_in_bits_per_byte_is_the_same_plan_as_in_nats(capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for target in ("1.7 nats/token", f"{1.7 / math.log(2):.15g} bits/byte"):
        command = ["recommend", SHIPPED, "--memory", "400KiB", "--context", "64", "--bits", "4", "--json"]
        assert main([*command, "--target-loss", target]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    assert plans[0]["choice"]["tokens"] == pytest.approx(plans[1]["choice"]["tokens"], rel=1e-6)
    assert plans[0]["bytes_per_token"] == 1.0
    assert main([*command[:-1], "--target-loss", "1.7 nats/token"]) == 0
    assert f"{plans[0]['choice']['loss'] / math.log(2):.3f} bits per byte" in " ".join(capsys.readouterr().out.split())


def test_a_target_in_bits_per_byte_needs_runs_that_say_them(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", fit, "--params", "1B", "--tokens", "1B", "--target-loss", "0.9 bits/byte"]
    assert main(command) == 2
    assert "bits_per_byte" in capsys.readouterr().err
