"""Run configurations: presets, ``--set``, checks that name the setting, and ``config.yaml`` read back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.utils import LinearSchedule

from palaestra.agents import PPO, SharedMlp
from palaestra.envs import TensorVectorEnv, UnknownEnvError, entries, make
from palaestra.train.config import CLASSES, ConfigError, RunConfig, build_arguments, checked, resolve_config
from palaestra.train.presets import DEFAULT, PRESETS, preset


def with_set(*settings: str, env: str = "snake-small") -> RunConfig:
    return resolve_config(env, settings=settings)


def agent(*settings: str) -> dict[str, Any]:
    return with_set(*settings).agent_kwargs


# ------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", [entry.id for entry in entries()] + ["CartPole-v1", "Pendulum-v1"])
def test_presets_resolve_and_build_an_agent(name: str) -> None:
    config = resolve_config(name)
    assert config.num_envs == preset(name, "ppo").num_envs
    assert config.agent_kwargs["policy"] == "MlpPolicy"
    model = PPO(
        env=make(config.env, 2, "cpu", **config.env_kwargs),
        **build_arguments(config) | {"n_steps": 256, "batch_size": 64},
    )
    assert model.lr_schedule(1.0) > model.lr_schedule(0.0) >= 0


def test_presets_are_of_environments_that_exist() -> None:
    known = {entry.id for entry in entries()}
    assert {env for env, _ in PRESETS} <= known
    assert preset("Nobody/Knows-v0", "ppo") is DEFAULT["ppo"]


def test_snake_preset_in_full() -> None:
    config = resolve_config("snake-small", seed=4)
    assert (config.env, config.agent, config.seed, config.device) == ("palaestra/SnakeSmall-v0", "ppo", 4, "auto")
    arguments = build_arguments(config)
    assert arguments["policy_kwargs"]["features_extractor_class"] is SharedMlp
    assert isinstance(arguments["learning_rate"], LinearSchedule)
    assert arguments["learning_rate"](1.0) == 1e-3
    assert arguments["ent_coef"](0.0) == 0.0


def test_the_command_line_beats_the_preset() -> None:
    config = resolve_config("snake-small", num_envs=128, total_timesteps=10_000, settings=["n_steps=64", "gamma=0.5"])
    assert (config.num_envs, config.total_timesteps) == (128, 10_000)
    assert (config.agent_kwargs["n_steps"], config.agent_kwargs["gamma"]) == (64, 0.5)
    assert agent("gamma=0.5", "gamma=0.25")["gamma"] == 0.25
    assert preset("palaestra/SnakeSmall-v0", "ppo").agent["n_steps"] == 32  # the preset itself is untouched


# ------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate=1e-3", 1e-3),
        ("learning_rate=3e-4", 3e-4),
        ("learning_rate=0.001", 1e-3),
        ("learning_rate=1", 1.0),
        ("learning_rate=+.5E-2", 5e-3),
        ("learning_rate=linear(1e-3, 0)", "linear(0.001, 0.0)"),
        ("learning_rate= linear( 1e-3 ,1e-5 ) ", "linear(0.001, 1e-05)"),
        ("learning_rate=linear(0.123456789,0)", "linear(0.123456789, 0.0)"),
        ("clip_range=linear(.2, .1)", "linear(0.2, 0.1)"),
        ("n_steps=64", 64),
        ("n_steps=1e2", 100),
        ("n_steps=64.0", 64),
        ("target_kl=null", None),
        ("target_kl=~", None),
        ("target_kl=0.01", 0.01),
        ("clip_range_vf=null", None),
        ("normalize_advantage=false", False),
        ("normalize_advantage=no", False),
        ("policy_kwargs={net_arch: [32, 32]}", {"net_arch": [32, 32]}),
        ("policy_kwargs={optimizer_kwargs: {eps: 1e-5, betas: [0.9, 9.9e-1]}}", None),
    ],
)
def test_values(setting: str, value: Any) -> None:
    key = setting.split("=")[0]
    got = agent("batch_size=128", setting)[key]
    if "optimizer_kwargs" in setting:
        value = {"optimizer_kwargs": {"eps": 1e-5, "betas": [0.9, 0.99]}}
    assert got == value
    assert type(got) is type(value)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_schedules_keep_every_digit(start: float, end: float) -> None:
    config = with_set(f"learning_rate=linear({start!r}, {end!r})")
    schedule = build_arguments(config)["learning_rate"]
    assert (schedule.start, schedule.end) == (start, end)


@given(st.floats(0, 1, allow_subnormal=False))
def test_numbers_keep_every_digit(value: float) -> None:
    assert agent(f"gamma={value!r}")["gamma"] == value


def test_nested_settings() -> None:
    kwargs = agent("policy_kwargs.net_arch=[64]", "policy_kwargs.features_extractor_kwargs.hidden=[8, 8]")[
        "policy_kwargs"
    ]
    assert kwargs == {
        "features_extractor_class": "SharedMlp",
        "features_extractor_kwargs": {"hidden": [8, 8]},
        "net_arch": [64],
    }
    kwargs = agent("policy_kwargs.activation_fn=ReLU", "policy_kwargs.optimizer_class=AdamW")["policy_kwargs"]
    built = build_arguments(with_set("policy_kwargs.activation_fn=ReLU", "policy_kwargs.optimizer_class=AdamW"))
    assert (kwargs["activation_fn"], kwargs["optimizer_class"]) == ("ReLU", "AdamW")
    assert built["policy_kwargs"]["activation_fn"] is torch.nn.ReLU
    assert built["policy_kwargs"]["optimizer_class"] is torch.optim.AdamW


def test_environment_settings() -> None:
    config = with_set("env.size=8", "env.actions=absolute", "env.max_episode_steps=50")
    assert config.env_kwargs == {"size": 8, "actions": "absolute", "max_episode_steps": 50}
    env = make(config.env, 2, "cpu", **config.env_kwargs)
    assert isinstance(env, TensorVectorEnv)
    assert (env.env.size, env.max_episode_steps) == (8, 50)
    assert with_set("env.g=9.8", env="Pendulum-v1").env_kwargs == {"g": 9.8}


BAD: list[tuple[str, str]] = [
    ("learning_rat=1e-3", r"unknown setting 'learning_rat'; did you mean 'learning_rate'\?"),
    ("zzz=1", "unknown setting 'zzz'; known: policy, policy_kwargs, learning_rate"),
    ("learning_rate", "--set learning_rate: expected key=value"),
    ("=3", "expected key=value"),
    ("learning_rate=fast", "learning_rate=fast: expected a number or linear"),
    ("learning_rate=linear(1)", r"learning_rate=linear\(1\): expected a number or linear"),
    ("learning_rate=linear(1, x)", "learning_rate=x: expected a number"),
    ("learning_rate=linear(1, -1)", "learning_rate=-1.*: must be at least 0"),
    ("learning_rate=-1", "learning_rate=-1: must be at least 0"),
    ("learning_rate=nan", "learning_rate=nan"),
    ("learning_rate=inf", "learning_rate=inf"),
    ("learning_rate=.inf", "learning_rate=inf"),
    ("learning_rate=true", "learning_rate=True: expected a number"),
    ("learning_rate=[1]", r"learning_rate=\[1\]: expected a number"),
    ("learning_rate=", "learning_rate=None: expected a number"),
    ("n_steps=inf", "n_steps=inf"),
    ("n_steps=1e400", "n_steps=inf"),
    ("n_steps=nan", "n_steps=nan"),
    ("n_steps=2.5", "n_steps=2.5: expected an integer"),
    ("n_steps=0", "n_steps=0: must be at least 1"),
    ("n_epochs=none", "n_epochs=none: expected an integer"),
    ("gamma=1.01", "gamma=1.01: must be at least 0 and at most 1"),
    ("gae_lambda=-0.1", "gae_lambda=-0.1: must be at least 0 and at most 1"),
    ("gamma=linear(1, 0)", "gamma=.*expected a number"),
    ("clip_range_vf=0", "clip_range_vf"),
    ("batch_size=1", "batch_size=1: must be at least 2"),
    ("batch_size=1000", r"batch_size=1000 does not divide num_envs × n_steps = 32768"),
    ("batch_size=65536", "batch_size=65536 does not divide"),
    ("normalize_advantage=1", "normalize_advantage=1: expected true or false"),
    ("policy=MlpPolicies", "unknown policy 'MlpPolicies'; did you mean 'MlpPolicy'"),
    ("policy=3", "policy=3.*: expected str"),
    ("policy_kwargs=64", "policy_kwargs=64: expected dict"),
    ("policy_kwargs.net_arc=[64]", "unknown setting 'policy_kwargs.net_arc'; did you mean 'policy_kwargs.net_arch'"),
    ("policy_kwargs.activation_fn=Relu", "unknown policy_kwargs.activation_fn 'Relu'; did you mean 'ReLU'"),
    ("policy_kwargs.activation_fn=[ReLU]", "unknown policy_kwargs.activation_fn"),
    ("policy_kwargs.optimizer_class=os.system", "unknown policy_kwargs.optimizer_class"),
    ("num_envs=5", "use --num-envs 5"),
    ("total_timesteps=5", "use --total-timesteps 5"),
    ("seed=5", "use --seed 5"),
    ("device=cpu", "use --device cpu"),
    ("env.sise=8", "unknown environment setting 'sise'; did you mean 'size'"),
    ("env.size=7", "size must be an even number"),
    ("env.size=big", "palaestra/SnakeSmall-v0"),
    ("env.size=null", "palaestra/SnakeSmall-v0"),
    ("env.observation=pixels", "observation must be"),
    ("env.max_episode_steps=0", "max_episode_steps=0: must be at least 1"),
    ("env.max_episode_steps=long", "max_episode_steps=long: expected an integer"),
    # YAML's own errors, and dates that it reads and cannot make
    ("learning_rate=[1", "is not a value"),
    ("learning_rate=!!python/object:os.system {}", "is not a value"),
    ("learning_rate=!!python/name:os.system", "is not a value"),
    ("learning_rate=*x", "is not a value"),
    ("learning_rate=@", "is not a value"),
    ("learning_rate=2024-13-45", "is not a value"),
    ("learning_rate=2024-01-01", "expected a number"),
]


@pytest.mark.parametrize(("setting", "message"), BAD, ids=[setting for setting, _ in BAD])
def test_bad_settings_are_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        with_set(setting)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_setting_or_a_config_error(text: str) -> None:
    for setting in (text, f"learning_rate={text}", f"policy_kwargs.net_arch={text}", f"env.size={text}"):
        try:
            config = with_set(setting)
        except ConfigError:
            continue
        assert math.isfinite(build_arguments(config)["gamma"])


def test_unknown_names_give_the_closest_match() -> None:
    with pytest.raises(UnknownEnvError, match="did you mean 'snake-small'"):
        resolve_config("snake-smal")
    with pytest.raises(ConfigError, match="unknown agent 'poo'; did you mean 'ppo'"):
        resolve_config("snake", "poo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs=0: must be at least 1"),
        ({"total_timesteps": 0}, "total_timesteps=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed=4294967296"),
        ({"num_envs": 1000}, "does not divide"),
        ({"device": "gpu"}, "unknown device 'gpu'; did you mean 'cpu'"),
        ({"device": "cuda:x"}, "device"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config("snake-small", **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="device=cuda: there is no such device here"):
        resolve_config("snake-small", device="cuda")


# ------------------------------------------------------------------------------------------- config.yaml


def round_trip(config: RunConfig) -> RunConfig:
    return RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.as_dict(), sort_keys=False)))


@pytest.mark.parametrize("name", [entry.id for entry in entries()] + ["CartPole-v1"])
def test_presets_survive_yaml(name: str) -> None:
    assert round_trip(resolve_config(name)) == resolve_config(name)


@given(
    rate=st.floats(1e-300, 1.0),
    steps=st.sampled_from([4, 8, 64]),
    kl=st.one_of(st.none(), st.floats(0, 1)),
    activation=st.sampled_from(sorted(set(CLASSES) & {"ReLU", "Tanh", "ELU"})),
    size=st.sampled_from([4, 6, 8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_configurations_survive_yaml(
    rate: float, steps: int, kl: float | None, activation: str, size: int, seed: int
) -> None:
    settings = [f"learning_rate=linear({rate!r}, 0)", f"ent_coef={rate!r}", f"n_steps={steps}", f"env.size={size}"]
    settings += [f"target_kl={'null' if kl is None else repr(kl)}", f"policy_kwargs.activation_fn={activation}"]
    config = resolve_config("snake", seed=seed, settings=settings)
    again = round_trip(config)
    assert again == config
    assert build_arguments(again)["policy_kwargs"] == build_arguments(config)["policy_kwargs"]
    assert build_arguments(again)["ent_coef"] == rate


def test_numbers_that_yaml_turns_into_text_are_numbers() -> None:
    """YAML 1.1 wants a dot and a sign in 1.0e-3; people who edit a config.yaml do not know."""
    data = resolve_config("snake-small").as_dict()
    text = yaml.safe_dump(data).replace("gamma: 0.995", "gamma: 995e-3")
    assert RunConfig.from_dict(yaml.safe_load(text)).agent_kwargs["gamma"] == pytest.approx(0.995)


def test_whole_numbers_get_their_type() -> None:
    config = checked(replace(resolve_config("snake-small"), num_envs=1024.0, total_timesteps=1e6))  # type: ignore[arg-type]
    assert (type(config.num_envs), type(config.total_timesteps)) == (int, int)


@pytest.mark.parametrize("data", [None, [], "x", 3, {}, {"env": "snake"}])
def test_files_that_are_no_configuration_are_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match="has the keys env, agent, seed"):
        RunConfig.from_dict(data)


@pytest.mark.parametrize(
    "change",
    [
        {"env": None},
        {"env": 3},
        {"agent": None},
        {"agent": ["ppo"]},
        {"device": 0},
        {"seed": "a"},
        {"seed": None},
        {"num_envs": None},
        {"num_envs": True},
        {"env_kwargs": None},
        {"env_kwargs": [1]},
        {"agent_kwargs": None},
        {"agent_kwargs": {"policy": "MlpPolicy", "policy_kwargs": None}},
        {"agent_kwargs": {3: 4}},
        {"env_kwargs": {3: 4}},
    ],
)
def test_wrong_types_in_a_file_are_config_errors(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RunConfig.from_dict(resolve_config("snake-small").as_dict() | change)


def test_an_additional_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="has the keys"):
        RunConfig.from_dict(resolve_config("snake-small").as_dict() | {"colour": "red"})
