"""``palaestra envs`` and ``palaestra envs ENV`` at any width, and ``palaestra train --dry-run``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command_line import palaestra

from palaestra.agents import DQN
from palaestra.envs import entries
from palaestra.train.commands.envs import env_page, envs_table, list_envs
from palaestra.train.config.description import describe_env
from palaestra.train.config.presets import load_presets
from palaestra.train.config.run_config import environment, resolve_config
from palaestra.train.config.schema import options_of
from palaestra.train.formatting import two_digits


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    text = envs_table(list_envs(), width)
    assert max(map(len, text.splitlines())) <= width
    for entry in entries():
        assert entry.short_name in text
        assert entry.summary.split()[0] in text


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", ["snake", "pricing-duopoly", "CartPole-v1"])
def test_a_page_fits_the_terminal(name: str, width: int) -> None:
    lines = env_page(describe_env(environment(name)), width, everything=True).splitlines()
    wrappable = [line for line in lines if max(map(len, line.split()), default=0) <= width - 8]  # words stay whole
    assert [line for line in wrappable if len(line) > width] == []


@pytest.mark.parametrize("name", [entry.short_name for entry in entries()])
def test_what_is_read_first_fits_a_screen(name: str) -> None:
    """24 lines of 80 characters, with the prompt: what it is, spaces, scores, and how to train."""
    found = describe_env(environment(name))
    lines = env_page(found, 80).splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for agent in found["agents"]:
        steps = two_digits(found["agents"][agent]["preset"]["total_timesteps"])
        told = f"palaestra train {name} {steps} steps, " if agent == "ppo" else f" {agent} ({steps} steps)"
        assert told in text
    for expected in (*found["observations"].split(), f"palaestra envs {name} --all", "best known"):
        assert expected in text
    for row in found["env_settings"]:
        assert row["key"].removeprefix("env.") in text


def test_a_page_tells_what_is_declared() -> None:
    found = describe_env(environment("snake-small"))
    assert (found["observations"], found["actions"]) == ("Box(0.0, 1.0, (145,), float32)", "Discrete(3)")
    assert found["reference"]["optimum"] == 35
    keys = {row["key"]: (row["type"], row["default"]) for row in found["env_settings"]}
    assert keys["env.size"] == ("integer", "6")  # as it was registered, not the class's 10
    assert keys["env.observation"] == ("flat, grid", "flat")
    settings = {row["key"]: row for row in found["agents"]["dqn"]["settings"]}
    assert set(settings) == set(options_of(DQN))
    assert settings["gamma"]["type"] == "number 0 … 1"
    preset = load_presets("dqn")["palaestra/SnakeSmall-v0"]
    assert settings["buffer_size"]["preset"] == str(preset.agent_kwargs["buffer_size"])
    assert found["agents"]["dqn"]["preset"]["total_timesteps"] == preset.total_timesteps
    page = env_page(found, 80, everything=True)
    assert "  1. The board has size × size cells" in page
    assert "``" not in page


@pytest.mark.parametrize("name", [entry.short_name for entry in entries()])
def test_the_pages_of_markets_tell_what_a_price_depends_on(name: str) -> None:
    """Without --all, for people who audit a seller."""
    found = describe_env(environment(name))
    rows = [line for line in env_page(found, 120).splitlines() if line.startswith("  decided by ")]
    assert [row.endswith("; no personal data") for row in rows] == [True] * name.startswith("pricing")


def test_a_page_of_a_gymnasium_environment() -> None:
    found = describe_env(environment("CartPole-v1"))
    assert (found["max_episode_steps"], found["reference"]["solved_at"]) == (500, 475.0)
    assert found["card"].startswith("This environment corresponds")
    assert {row["key"] for row in found["env_settings"]} == {"env.sutton_barto_reward"}


def test_a_page_of_what_is_unknown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert palaestra(monkeypatch, "envs", "snak") == 2
    assert capsys.readouterr().err.endswith("did you mean 'snake'?\n")
    assert palaestra(monkeypatch, "envs", "--all") == 2
    assert capsys.readouterr().err.endswith("palaestra envs ENV --all\n")
    assert palaestra(monkeypatch, "envs", "cartpole", "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == "palaestra/CartPole-v1"


def test_a_dry_run_prints_the_configuration_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "snake-small", "--agent", "dqn", "--set", "env.size=8", "--dry-run"]
    assert palaestra(monkeypatch, *arguments) == 0
    expected = resolve_config("snake-small", "dqn", settings=["env.size=8"])
    assert yaml.safe_load(capsys.readouterr().out) == expected.as_dict()
    for more, message in {
        "--set lerning_rate=1": "did you mean 'learning_rate'",
        "--track sometimes": "expected auto",
        "--run-dir .": "exists already",
        "--init-from nowhere": "no run 'nowhere'",
    }.items():
        assert palaestra(monkeypatch, *arguments, *more.split()) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert message in captured.err
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert palaestra(monkeypatch, *arguments) == 2
    assert "--max-restarts needs --run-dir" in capsys.readouterr().err
    assert palaestra(monkeypatch, "train", "--resume", "latest", "--dry-run") == 2
    assert "--dry-run is for new runs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
