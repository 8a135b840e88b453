"""Model cards: what Hugging Face's own reader finds in them, each number from the run's files, and what is left out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported_runs import command
from pages import blocks, command_lines

from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.stress import StressTest, stress_player
from palaestra.train.results.cost import EnergyFactors, cost_of
from palaestra.train.results.model_card import model_card
from palaestra.train.results.stored_scores import final_evaluation, store_stress, stored_stress
from palaestra.train.runs.run_folder import RunFolder

OLD = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"
SIZE = ("--num-envs", "32", "--total-timesteps", "2048", "--set", "n_steps=16", "--set", "batch_size=128")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CartPole of a few seconds; copied where a test changes it."""
    folder = tmp_path_factory.mktemp("card") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        words = ("train", "cartpole", *SIZE, "--track", "disabled", "--threads", "1", "-q", "--run-dir", "run")
        assert command(patch, *words) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "agent")


def front_matter(card: str) -> dict[str, Any]:
    start, front, _ = card.split("---\n", 2)
    assert start == ""
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def section(card: str, name: str) -> str:
    """The text of a section; empty where the card has none."""
    found = re.search(rf"^## {name}\n\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def test_hugging_face_reads_the_scores(trained: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(model_card(RunFolder(trained)))
    said = json.loads((trained / "eval.json").read_text())
    assert card.data.pipeline_tag == "reinforcement-learning"
    assert card.data.model_name == "ppo-cartpole"
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results.keys() == {"mean_reward", "percent_of_optimal"}
    score = results["mean_reward"]
    assert (score.dataset_type, score.dataset_name) == ("palaestra/CartPole-v1", "cartpole")
    assert score.metric_value == pytest.approx(said["mean"], rel=1e-5)
    assert score.metric_args["ci_low"] == pytest.approx(said["ci_low"], rel=1e-5)
    assert score.metric_args["ci_high"] == pytest.approx(said["ci_high"], rel=1e-5)
    assert score.metric_args["episodes"] == said["episodes"]
    assert results["percent_of_optimal"].metric_value == pytest.approx(said["percent_of_optimal"], rel=1e-5)
    again = hub.ModelCard(str(card))  # what it writes says the same
    assert again.data.to_dict() == card.data.to_dict() == front_matter(str(card))


def test_numbers_are_those_of_the_run(run: Path) -> None:
    content = {**json.loads((run / "eval.json").read_text()), "mean": 431.25, "ci_low": 420.0, "ci_high": 442.5}
    (run / "eval.json").write_text(json.dumps({**content, "percent_of_optimal": 85.6, "success_rate": None}))
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "run_seconds": 7200.0, "cpu_seconds": 10_800.0}))
    card = model_card(RunFolder(run), EnergyFactors(grams_per_kwh=100.0))
    assert card.split("---\n", 2)[2].startswith("\n# PPO on cartpole\n")
    assert "| **mean return** | **431** (95 % interval 420 to 442) |" in section(card, "Score")
    assert "| normalised score | 85.6 % (" in section(card, "Score")
    assert "| solved at | 475.0 |" in section(card, "Score")
    assert "pole_angle in rad" in section(card, "Task")
    assert "| environment steps | 2,048 |" in section(card, "Training")
    assert yaml.safe_load(section(card, "Training").split("```yaml\n")[1].split("```")[0])["n_steps"] == 16
    cost = section(card, "Cost")
    assert "| processors | 3.0 h |\n| electricity | 0.036 kWh |\n| CO₂ equivalents | 3.6 g |" in cost
    assert cost_of(RunFolder(run), EnergyFactors(grams_per_kwh=100.0)).assumptions() in cost
    limits = section(card, "Limits")
    assert "one training, with seed 0" in limits
    assert "* The score is below 475.0" in limits
    assert "* It was not tested in changed conditions." in limits


def test_what_the_card_says_of_its_use_works(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    text = section(model_card(RunFolder(run)), "Use it")
    for line in command_lines(text):
        if "export" in line:
            pytest.importorskip("onnxruntime")
        few = ("--episodes", "2") if line.startswith("palaestra evaluate") else ()
        assert command(monkeypatch, *line.split()[1:], *few) == 0, capsys.readouterr().err
    assert all((run.parent / name).stat().st_size > 1000 for name in ("episode.gif", "policy.onnx"))
    (program,) = (block for kind, block in blocks(text) if kind == "python")
    exec(compile(program, "card", "exec"), {})


@pytest.mark.parametrize("name", ["ppo-cartpole", "dqn-pricing"])
def test_a_run_of_which_less_is_known_has_a_shorter_card(name: str, tmp_path: Path) -> None:
    """Runs of an earlier version, the second stopped before it was evaluated."""
    card = model_card(RunFolder(shutil.copytree(OLD.parent / name, tmp_path / "run")))
    front = front_matter(card)
    assert "license" not in front
    assert ("model-index" in front) == (name == "ppo-cartpole")
    if name == "ppo-cartpole":
        assert "those of 1 busy threads" in card
    else:
        assert section(card, "Score") == "The run has no final evaluation.\n\n"
        assert "* The run is not finished." in card
        assert "processors" not in section(card, "Cost")


def stressed(run: Path) -> StressTest:
    from palaestra.train.commands.evaluate import find_player

    return stress_player(find_player(str(run), None, False, ()), 8, 0, lambda share, name: None)


def test_stress_results_belong_to_the_weights_that_were_tested(run: Path) -> None:
    test = stressed(run)
    store_stress(RunFolder(run), test)
    card = model_card(RunFolder(run))
    rows = section(card, "In changed conditions").splitlines()
    assert len([row for row in rows if row.startswith("|")]) == 2 + 1 + len(test.stressed)
    row = next(row for row in rows if row.startswith("| length −80 %"))
    one = next(one for one in test.stressed if one.name == "length_minus_80")
    assert row.split("|")[4].strip() == f"{one.normalised:z.1f} %"
    assert "The worst of the tested conditions is" in section(card, "Limits")
    (run / "model.zip").write_bytes((run / "best.zip").read_bytes() + b" ")  # trained further
    assert section(model_card(RunFolder(run)), "In changed conditions") == ""


def test_pricing_brings_its_own_shifted_markets(run: Path) -> None:
    content = json.loads((run / "eval.json").read_text())
    shifted = {"exact_mean": 90.25, "demand_plus_20_optimum": 120.0, "demand_plus_20_ratio_percent": 75.0}
    (run / "eval.json").write_text(json.dumps({**content, **shifted}))
    card = model_card(RunFolder(run))
    assert "**90.25** (exact expectation)" in section(card, "Score")
    assert "| demand +20 % | 75.0 % |" in section(card, "In changed conditions")
    assert front_matter(card)["model-index"][0]["results"][0]["metrics"][0]["args"] == {"exact": True}


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("eval.json", "[]", "eval.json"),
        ("eval.json", '{"mean": 1.0}', "eval.json"),
        ("run.json", "{", "run.json"),
        ("stress.json", "{", "stress.json"),
        ("config.yaml", "env: 3", "configuration"),
        ("config.yaml", None, "config.yaml"),
        ("model.zip", None, "model.zip"),
    ],
)
def test_damaged_and_missing_files_are_named(run: Path, file: str, content: str | None, word: str) -> None:
    (run / file).unlink(missing_ok=True)
    if content is not None:
        (run / file).write_text(content)
    with pytest.raises(ConfigError, match=word):
        model_card(RunFolder(run))


@pytest.mark.parametrize("value", ["many", None, [1.0]])
@pytest.mark.parametrize("name", ["mean", "ci_low", "episodes", "reference"])
def test_an_evaluation_with_another_kind_of_value_is_damaged(run: Path, name: str, value: Any) -> None:
    content = json.loads((run / "eval.json").read_text())
    (run / "eval.json").write_text(json.dumps({**content, name: value}))
    with pytest.raises(ConfigError, match=rf"damaged: {name}"):
        final_evaluation(RunFolder(run))


@pytest.mark.parametrize("change", [{"stresses": 3}, {"stresses": [{"name": 4}]}, {"unchanged": None}])
def test_a_damaged_stress_test_is_named(run: Path, change: dict[str, Any]) -> None:
    store_stress(RunFolder(run), stressed(run))
    content = json.loads((run / "stress.json").read_text())
    (run / "stress.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ConfigError, match=r"stress\.json is damaged"):
        stored_stress(RunFolder(run))
