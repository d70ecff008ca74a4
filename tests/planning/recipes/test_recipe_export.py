"""Recipes: lengths that add up, and files that the named tools accept."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.problems import problem

from qatplan.cli.app import main
from qatplan.errors import UsageError
from qatplan.laws import FittedLaw
from qatplan.planning.recipes.export import WRITERS, written
from qatplan.planning.recipes.recipe import Recipe, recipe
from qatplan.planning.recommend import recommend

Build = Callable[..., FittedLaw]
PLAN = Recipe(
    params=10**9, bits=4.0, group_size=32, embedding_bits=4.0, batch_tokens=2**19, sequence=4096, switch_step=700,
    steps=1000, given_fp_tokens=None, schedule="classic", warmup_steps=7, cooldown_steps=140, rewarmup_steps=3,
    learning_rate=3e-4, qat_learning_rate=1e-4, notes=("a note",),
)  # fmt: skip


def test_phases_add_up_to_the_plan(fitted: Build) -> None:
    advice = recommend(fitted(), problem(bits=(4.0,), params=1e9, tokens=2e11))
    held = recipe(advice, batch_tokens=2**20)
    plan = advice.choice.plan
    assert held.schedule == "fused"
    assert held.cooldown_steps == 0
    assert held.switch_step * 2**20 == pytest.approx(plan.d_fp, abs=2**19)
    assert held.qat_steps * 2**20 == pytest.approx(plan.d_qat, abs=2**19)
    classic = recipe(recommend(fitted(), problem(bits=(2.0,), params=1e9, tokens=2e11)), batch_tokens=2**20)
    assert classic.schedule == "classic"
    assert classic.cooldown_steps == pytest.approx(0.2 * classic.switch_step, abs=1)
    uneven = recipe(advice, batch_tokens=2e6)
    assert uneven.batch_tokens == 488 * 4096
    assert uneven.switch_step * 488 * 4096 == pytest.approx(plan.d_fp, abs=2**20)
    assert any("488 whole sequences, 1998848 tokens" in note for note in uneven.notes)
    assert not any("whole sequences" in note for note in held.notes)
    with pytest.raises(UsageError, match="at least one step"):
        recipe(advice, batch_tokens=1e12)
    with pytest.raises(UsageError, match="at least one sequence"):
        recipe(advice, batch_tokens=100)
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="qat learning rate is"):
            recipe(advice, batch_tokens=2**20, qat_learning_rate=rate)


def test_continuation_has_one_phase(fitted: Build) -> None:
    advice = recommend(fitted(), problem(bits=(4.0,), params=1e9, fp_tokens=1e11, tokens=2e10))
    held = recipe(advice, batch_tokens=2**20)
    assert (held.switch_step, held.warmup_steps, held.cooldown_steps) == (0, 0, 0)
    assert held.steps == round(2e10 / 2**20)
    assert held.given_fp_tokens == 1e11
    assert "def full_precision" not in written(held, "torchtitan")


def test_yaml_holds_every_field() -> None:
    lines = [line for line in written(PLAN, "yaml").splitlines() if not line.startswith("#")]
    read = {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines)}
    assert read == {k: v for k, v in PLAN.as_dict().items() if k != "notes"}


def test_small_rates_are_numbers_in_yaml_1_1() -> None:
    """Its floats have a point (yaml.org/type/float.html); PyYAML reads 1e-05 as a word."""
    text = written(dataclasses.replace(PLAN, learning_rate=1e-5, qat_learning_rate=1.5e-7), "yaml")
    for name, value in (("learning_rate", 1e-5), ("qat_learning_rate", 1.5e-7)):
        found = re.search(rf"^{name}: (\S+)$", text, re.MULTILINE)
        assert found is not None
        assert re.fullmatch(r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?", found[1])
        assert float(found[1]) == value


def test_torchtitan_takes_both_phases() -> None:
    """On its own Trainer.Config, with its own validation and its own schedule."""
    torch = pytest.importorskip("torch")
    trainer = pytest.importorskip("torchtitan.trainer")
    optimizer = pytest.importorskip("torchtitan.components.optimizer")
    said: dict[str, object] = {}
    exec(written(PLAN, "torchtitan"), said)
    config = trainer.Trainer.Config(optimizer=optimizer.default_adamw(lr=1.0))
    said["full_precision"](config)  # type: ignore[operator]
    assert config.training.steps == 700
    assert config.training.global_batch_size * config.training.seq_len == PLAN.batch_tokens
    assert config.optimizer.param_groups[0].optimizer_kwargs["lr"] == 3e-4
    assert config.checkpoint.enable
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    schedule = config.lr_scheduler.build(optimizers=[torch.optim.SGD(parameters, lr=1.0)], training_steps=700)
    factor = schedule.schedulers[0].lr_lambdas[0]
    assert [factor(0), factor(300), factor(560)] == pytest.approx([1 / 7, 1.0, 1.0])
    assert factor(699) == pytest.approx(1 / 140)
    said["qat"](config, "/checkpoints/full-precision/step-700")  # type: ignore[operator]
    assert (config.training.steps, config.checkpoint.folder) == (300, "qat")
    assert config.optimizer.param_groups[0].optimizer_kwargs["lr"] == 1e-4
    # Fields were set one by one; constructing it anew runs its validation.
    dataclasses.replace(config.checkpoint)


@pytest.mark.parametrize("tool", ["torchao", "torchtitan"])
def test_python_recipes_parse(tool: str) -> None:
    ast.parse(written(PLAN, tool))


def test_torchao_builds_and_quantizes_a_model() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchao")
    for bits, group in ((2.0, None), (4.0, 32), (8.0, None)):
        said: dict[str, object] = {}
        exec(written(dataclasses.replace(PLAN, bits=bits, group_size=group), "torchao"), said)
        model = torch.nn.Sequential(torch.nn.Embedding(16, 64), torch.nn.Linear(64, 32), torch.nn.Linear(32, 8))
        said["prepare"](model, skip=("2",))  # type: ignore[operator]
        assert [type(m).__name__ for m in model] == ["FakeQuantizedEmbedding", "FakeQuantizedLinear", "Linear"]
        model(torch.arange(16)).sum().backward()
        assert model[1].weight.grad.abs().sum() > 0
        said["convert"](model)  # type: ignore[operator]
        levels = torch.unique(model[1].weight.qdata)
        assert len(levels) <= 2**bits
        assert model(torch.arange(16)).isfinite().all()


def test_rates_rise_hold_and_fall_in_both_phases() -> None:
    text = written(PLAN, "torchao")
    said: dict[str, object] = {"SWITCH_STEP": PLAN.switch_step, "STEPS": PLAN.steps}
    exec(text[text.index("def lr_factor") :], said)
    factor: Callable[[int], float] = said["lr_factor"]  # type: ignore[assignment]
    assert factor(0) == pytest.approx(1 / 7)
    assert factor(300) == factor(559) == 1.0
    assert factor(560) == 1.0 > factor(561)
    assert factor(699) == pytest.approx(1 / 140)
    assert factor(700) == pytest.approx(1 / 3)
    assert factor(999) == pytest.approx(1 / 300)


def test_paretoq_is_a_valid_script_of_known_flags(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(written(PLAN, "paretoq"))
    assert subprocess.run(["sh", "-n", path]).returncode == 0
    text = path.read_text()
    assert "--w_bits 4" in text
    assert "--max_steps 300" in text
    assert "groups of 32 cannot be expressed" in text
    # Fields of its ModelArguments, DataArguments and TrainingArguments (and of transformers' TrainingArguments).
    known = {
        "local_dir", "input_model_filename", "output_model_filename", "w_bits", "train_data_local_path", "qat",
        "model_max_length", "do_train", "do_eval", "bf16", "max_steps", "per_device_train_batch_size", "learning_rate",
        "gradient_accumulation_steps", "weight_decay", "lr_scheduler_type", "warmup_steps",
    }  # fmt: skip
    assert set(re.findall(r"^  --(\w+)", text, re.MULTILINE)) == known
    assert "--w_bits 0" in written(dataclasses.replace(PLAN, bits=1.58), "paretoq")


def test_paretoq_is_called_with_the_whole_batch(tmp_path: Path) -> None:
    """Run with a torchrun that prints what it is given: the batch is split over devices, or refused."""
    script, called = tmp_path / "run.sh", tmp_path / "torchrun"
    script.write_text(written(PLAN, "paretoq"))
    called.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    called.chmod(0o755)
    given = {"PATH": f"{tmp_path}:/usr/bin:/bin", "INPUT_MODEL": "m", "TRAIN_DATA": "d", "LOCAL_DIR": "l"}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", script], env={**given, **more}, capture_output=True, text=True, check=False)

    words = run(DEVICES="8").stdout.split("\n")
    assert words[words.index("--gradient_accumulation_steps") + 1] == str(2**19 // 4096 // 8)
    assert words[words.index("--learning_rate") + 1] == "0.0001"
    refused = run(DEVICES="3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "128 sequences is not divided by 3 devices" in refused.stderr
    assert "INPUT_MODEL" in subprocess.run(["sh", script], env={"PATH": given["PATH"]}, capture_output=True, text=True,
                                           check=False).stderr  # fmt: skip


@pytest.mark.parametrize(("tool", "bits"), [("torchao", 1.0), ("torchao", 2.5), ("paretoq", 8.0)])
def test_what_a_tool_cannot_hold_is_refused(tool: str, bits: float) -> None:
    with pytest.raises(UsageError, match="export yaml"):
        written(dataclasses.replace(PLAN, bits=bits), tool)


def test_command(fitted: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = tmp_path / "fit.json"
    fitted().write(fit)
    base = ["recommend", str(fit), "--params", "1B", "--tokens", "200B", "--bits", "4"]
    for tool in WRITERS:
        out = tmp_path / f"recipe.{tool}"
        assert main([*base, "--export", tool, "--export-out", str(out), "--batch-tokens", "1M"]) == 0
        assert out.read_text()
    assert main([*base, "--export", "yaml", "--export-out", str(out), "--batch-tokens", "1M"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*base, "--export", "yaml"]) == 2
    assert main([*base, "--export", "gguf", "--export-out", str(tmp_path / "x"), "--batch-tokens", "1M"]) == 2
    assert "must be one of torchao" in capsys.readouterr().err
