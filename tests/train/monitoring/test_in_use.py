"""From a run to a log to a verdict, with trained agents: the same environment, another one, and what follows."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from exported_runs import SMALL, TRAIN, command
from use_logs import entries_of_use, shop_lines, write_log

from palaestra.envs.registry import resolve
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.monitoring.use_comparison import compare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported agents of a few steps; that of the market asks several prices and earns little."""
    folder = tmp_path_factory.mktemp("in_use")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for env, more in (
            ("cartpole", ("--set", "env.max_episode_steps=12")),
            ("pricing-easy", ("--set", "env.periods=20", "--set", "env.stock=4")),
        ):
            assert command(patch, "train", env, *TRAIN, *SMALL, *more, "--run-dir", env) == 0
            assert command(patch, "export", env, "--out", f"{env}.onnx") == 0
    return folder


@pytest.mark.parametrize("env", ["cartpole", "pricing-easy"])
def test_the_very_episodes_of_the_reference_are_at_no_distance(folder: Path, tmp_path: Path, env: str) -> None:
    """Played again by the file alone: the same states, counted from JSON."""
    policy = PolicyFile(folder / f"{env}.onnx")
    reference = policy.contract["reference"]
    again = entries_of_use(policy.path, reference["episodes"], EVALUATION_SEEDS + 2, apart=timedelta(minutes=1))
    found = compare(policy, write_log(tmp_path / "use.jsonl", again))
    assert found.states == reference["states"]
    assert max(shift.ks or 0.0 for shift in found.shifts) < 1e-6
    assert max(abs(shift.psi or 0.0) for shift in found.shifts) < 1e-6
    for shift, number in zip(found.shifts, found.numbers, strict=True):
        assert shift.mean == pytest.approx(number.mean, rel=1e-5, abs=1e-6)
    assert found.returns.count == reference["episodes"]
    assert found.alarms == []


@pytest.mark.parametrize("env", ["cartpole", "pricing-easy"])
def test_other_episodes_of_the_same_environment_raise_no_alarm(folder: Path, tmp_path: Path, env: str) -> None:
    policy = PolicyFile(folder / f"{env}.onnx")
    for seed, episodes in ((11, 4), (12, 30), (13, 100)):
        log = write_log(tmp_path / "use.jsonl", entries_of_use(policy.path, episodes, seed))
        assert compare(policy, log).alarms == []


def test_another_cart_and_a_bent_sensor_are_found(folder: Path, tmp_path: Path) -> None:
    policy = PolicyFile(folder / "cartpole.onnx")
    longer = entries_of_use(policy.path, 60, 1, rules=resolve("cartpole").build(half_length=2.0))
    found = compare(policy, write_log(tmp_path / "use.jsonl", longer))
    assert any(alarm.startswith(("pole", "cart")) for alarm in found.alarms)
    bent = entries_of_use(policy.path, 60, 1, seen=lambda obs: obs + 0.5)
    found = compare(policy, write_log(tmp_path / "use.jsonl", bent))
    assert {"cart_position", "pole_angle"} <= {alarm.partition(":")[0] for alarm in found.alarms}
    assert any("out of range" in alarm for alarm in found.alarms)


def test_a_changed_market_is_found_by_its_sales(folder: Path, tmp_path: Path) -> None:
    policy = PolicyFile(folder / "pricing-easy.onnx")
    for rate, refit in ((0.5, False), (0.9, True)):
        rules = resolve("pricing-easy").build(periods=20, stock=4, arrival_rate=rate)
        log = write_log(tmp_path / "use.jsonl", entries_of_use(policy.path, 400, 5, rules=rules))
        found = compare(policy, log).sales_verdict
        assert found is not None
        assert found.refit is refit
        assert found.low < rate / 0.5 < found.high


def test_three_commands_lead_from_a_log_to_the_demand_behind_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shop has 1.6 times as many customers: λ = 0.8 instead of 0.5, and as sensitive ones, exp(−p / 50)."""
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "train", "pricing-easy", *TRAIN, *SMALL, "--run-dir", "run") == 0
    assert command(monkeypatch, "export", "run", "--out", "prices.onnx") == 0
    write_log(Path("shop.jsonl"), shop_lines(1.6, 120))
    assert command(monkeypatch, "monitor", "prices.onnx", "shop.jsonl", "--sales", "sales.csv") == 1
    text = capsys.readouterr().out
    assert "fit demand anew" in text
    assert "next: palaestra fit-demand sales.csv --gaps unknown" in text
    assert command(monkeypatch, "fit-demand", "sales.csv", "--gaps", "unknown", "--out", "newer.json") == 0
    (product,) = json.loads(Path("newer.json").read_text())["products"].values()
    coefficients = product["estimate"]["coefficients"]
    assert coefficients["price"] == pytest.approx(-1 / 50, abs=0.003)
    middle = coefficients["constant"] + 100 * coefficients["price"]
    assert middle == pytest.approx(-0.223 - 2.0, abs=0.25)  # log(0.8) − 100 / 50
    words = ("--set", "env.demand=newer.json", "--dry-run")
    assert command(monkeypatch, "train", "pricing", *TRAIN, *SMALL, *words) == 0
    before = {*Path().iterdir()}
    assert command(monkeypatch, "monitor", "prices.onnx", "shop.jsonl", "--sales", "sales.csv") == 2
    assert "sales.csv is there already" in capsys.readouterr().err
    assert {*Path().iterdir()} == before
