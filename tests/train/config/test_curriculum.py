"""Curricula in a run's configuration: what the texts mean, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from probes import EndlessReward

from palaestra.train.config.curriculum import Curriculum, curriculum_of, stage_kwargs
from palaestra.train.config.run_config import RunConfig, read_file, resolve_config, with_settings
from palaestra.train.config.schema import ConfigError

STAGES = "env.size=curriculum(6, 8, 10)"
FRAME = "env.frame=10"


def test_evaluations_and_everything_else_have_the_last_value() -> None:
    config = resolve_config("snake", settings=[STAGES, FRAME])
    assert config.env_kwargs == {"size": 10, "frame": 10}
    assert config.curriculum == {"size": "curriculum(6, 8, 10)"}
    assert curriculum_of(config.curriculum) == Curriculum(({"size": 6}, {"size": 8}, {"size": 10}))
    assert RunConfig.from_dict(config.as_dict()) == config
    assert curriculum_of(resolve_config("snake").curriculum) is None


@pytest.mark.parametrize(
    ("text", "stages", "at", "percent"),
    [
        ("curriculum(4,6, at=0.5)", [4, 6], 0.5, None),
        (" curriculum( 4 , 6 , percent = 80 ) ", [4, 6], None, 80.0),
        ("curriculum(4, 6, 4, 6)", [4, 6, 4, 6], None, None),
    ],
)
def test_texts(text: str, stages: list[int], at: float | None, percent: float | None) -> None:
    config = resolve_config("snake", settings=[f"env.size={text}", FRAME])
    assert curriculum_of(config.curriculum) == Curriculum(tuple({"size": size} for size in stages), at, percent)


def test_values_of_every_kind() -> None:
    config = resolve_config("cartpole", settings=["env.sticky_actions=curriculum(0.5, 1e-1, 0, score=4e2)"])
    stages = ({"sticky_actions": 0.5}, {"sticky_actions": 0.1}, {"sticky_actions": 0})
    assert curriculum_of(config.curriculum) == Curriculum(stages, score=400.0)
    config = resolve_config("snake", settings=["env.actions=curriculum(relative, relative)"])
    assert curriculum_of(config.curriculum) == Curriculum(({"actions": "relative"},) * 2)
    config = resolve_config(
        "cartpole", settings=["env.randomized=curriculum({gravity: [9, 10]}, {gravity: [5, 15]}, score=1)"]
    )
    assert config.env_kwargs == {"randomized": {"gravity": [5.0, 15.0]}}


def test_arguments_with_as_many_stages_change_together() -> None:
    settings = [STAGES, FRAME, "env.sticky_actions=curriculum(0.2, 0.1, 0.0, at=0.7)"]
    config = resolve_config("snake", settings=settings)
    found = curriculum_of(config.curriculum)
    assert found is not None
    assert found.stages[1] == {"size": 8, "sticky_actions": 0.1}
    assert found.at == 0.7
    assert found.told(0) == "size=6, sticky_actions=0.2"
    assert stage_kwargs(config.resolved_env, config.env_kwargs, found.stages[0]) == {
        "size": 6,
        "frame": 10,
        "sticky_actions": 0.2,
    }


def test_a_file_may_hold_one_and_the_command_line_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("env: snake\nenv_kwargs: {size: 'curriculum(6, 10)', frame: 10}\n")
    config = resolve_config(file=read_file(file))
    assert config.curriculum == {"size": "curriculum(6, 10)"}
    assert with_settings(config, ["env.size=10"]).curriculum is None
    assert with_settings(config, ["gamma=0.9"]).curriculum == config.curriculum


BAD: list[tuple[list[str], str]] = [
    ([STAGES], r"^the network does not fit all stages: env.size=10 has observations Box\(401,\), env.size=6 has "
     r"Box\(145,\); --set env.frame=10 shows all of them in one form$"),
    (["env.actions=curriculum(relative, absolute)"], r"env.actions=absolute has .* env.actions=relative has "),
    (["env.size=curriculum(6)"], r"^env.size=curriculum\(6\): expected curriculum\(first, …, last\)"),
    (["env.size=curriculum()"], "expected curriculum"),
    (["env.size=curriculum(6, 10, at=0.5, percent=50)", FRAME], "expected curriculum"),
    (["env.size=curriculum(6, {, 10)", FRAME], "expected curriculum"),
    (["env.size=curriculum(6, 10, at=0)", FRAME], "at must be above 0 and at most 1"),
    (["env.size=curriculum(6, 10, at=nan)", FRAME], "at must be above 0 and at most 1"),
    (["env.size=curriculum(6, 10, percent=101)", FRAME], "percent must be above 0 and at most 100"),
    (["env.size=curriculum(6, 10, percent=much)", FRAME], "percent must be above 0 and at most 100"),
    (["env.size=curriculum(6, 7, 10)", FRAME], "size must be an even number from 4 to 180, got 7"),
    ([STAGES, FRAME, "env.sticky_actions=curriculum(0.1, 0)"], "^env.sticky_actions has 2 stages, env.size 3: give "),
    (["env.size=curriculum(6, 10, score=inf)", FRAME], "score must be a number"),
    ([STAGES, FRAME, "env.sticky_actions=curriculum(0.1, 0, 0, at=0.5)",
      "env.delayed_observation=curriculum(0, 1, 2, percent=5)"], "at and percent exclude each other"),
    (["env.sizes=curriculum(6, 8)"], "unknown environment setting 'sizes'; did you mean 'size'"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_what_does_not_fit_is_said_in_a_line(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        resolve_config("snake", settings=settings)
    assert "\n" not in str(error.value)


def test_an_environment_must_know_how_well_it_goes() -> None:
    settings = ["env.sticky_actions=curriculum(0.2, 0.1)"]
    name = f"{EndlessReward.__module__}:{EndlessReward.__name__}"
    with pytest.raises(ConfigError, match=r"^env.sticky_actions=0.2: .* has no success and no known optimum to go on"):
        resolve_config(name, settings=settings)
    with pytest.raises(ConfigError, match="has no success"):
        resolve_config("cartpole", settings=["env.sticky_actions=curriculum(0.2, 0.1, at=0.5)"])


@pytest.mark.parametrize("value", [{}, {"size": 3}, {"size": "curriculum(6)"}, "curriculum(6, 8)", [1]])
def test_a_damaged_file_is_refused(value: Any) -> None:
    data = resolve_config("snake", settings=[FRAME]).as_dict() | {"curriculum": value}
    with pytest.raises(ConfigError, match="curriculum"):
        RunConfig.from_dict(data)
