"""Run configurations: presets, ``--set``, checks that name the setting, and ``config.yaml`` read back."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from gymnasium.spaces import Discrete
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.utils import LinearSchedule

from palaestra.agents import DQN, SharedMlp
from palaestra.agents.training.score_schedule import ScoreSchedule
from palaestra.envs import TensorVectorEnv, UnknownEnvError, entries, make, resolve
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.commands.envs import agents_for
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import CLASSES, check_policy
from palaestra.train.config.presets import (
    ANY_GYMNASIUM_ENV,
    ANY_TENSOR_ENV,
    Preset,
    load_presets,
    preset,
)
from palaestra.train.config.run_config import (
    RunConfig,
    build_arguments,
    read_file,
    resolve_config,
    validated,
    with_settings,
)
from palaestra.train.config.schema import ConfigError, checkpoint_interval, load_yaml, options_of


def with_set(*settings: str, env: str = "snake-small") -> RunConfig:
    return resolve_config(env, settings=settings)


def agent(*settings: str) -> dict[str, Any]:
    return with_set(*settings).agent_kwargs


# ------------------------------------------------------------------------------------------- presets


PAIRS = [(entry.id, agent) for entry in entries() for agent in agents_for(entry)]
PAIRS += [("CartPole-v1", "ppo"), ("CartPole-v1", "dqn"), ("CartPole-v1", "pqn"), ("Pendulum-v1", "ppo")]


@pytest.mark.parametrize(("name", "agent"), PAIRS)
def test_presets_resolve_and_build_an_agent(name: str, agent: str) -> None:
    config = resolve_config(name, agent)
    assert config.num_envs == preset(resolve(name), agent).num_envs
    assert config.env_kwargs == preset(resolve(name), agent).env_kwargs
    assert config.agent_kwargs["policy"] in AGENTS[agent].policy_aliases
    fewer = {"ppo": {"n_steps": 256, "batch_size": 64}, "dqn": {"target_update_interval": 2}, "pqn": {}}.get(agent, {})
    model = AGENTS[agent](env=make(config.env, 2, "cpu", **config.env_kwargs), **build_arguments(config) | fewer)
    assert model.lr_schedule(1.0) >= model.lr_schedule(0.0) >= 0


def test_presets_are_of_environments_that_exist() -> None:
    known = {entry.id for entry in entries()}
    pairs = {(env, agent) for agent in AGENTS for env in load_presets(agent) if "/" in env}
    assert {env for env, _ in pairs} <= known
    assert pairs <= set(PAIRS)
    assert preset(resolve("MountainCar-v0"), "ppo") is load_presets("ppo")[ANY_GYMNASIUM_ENV]
    mine = TensorEnvSpec("me/Mine-v0", "mine", "me/Mine-v0", "", "mine:Mine")
    assert preset(mine, "ppo") is load_presets("ppo")[ANY_TENSOR_ENV]


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
    assert preset(resolve("snake-small"), "ppo").agent_kwargs["n_steps"] == 32  # the preset itself is untouched


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
    ("learning_rat=1e-3", r"unknown ppo setting 'learning_rat'; did you mean 'learning_rate'\?"),
    ("zzz=1", "unknown ppo setting 'zzz'; known: policy, policy_kwargs, learning_rate"),
    ("learning_rate", "--set learning_rate: expected key=value"),
    ("=3", "expected key=value"),
    ("learning_rate=fast", "learning_rate=fast: expected a number, linear"),
    ("learning_rate=linear(1)", r"learning_rate=linear\(1\): expected a number, linear"),
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
    # errors of YAML, and dates, which stay text
    ("learning_rate=[1", "is not a value"),
    ("learning_rate=!!python/object:os.system {}", "is not a value"),
    ("learning_rate=!!python/name:os.system", "is not a value"),
    ("learning_rate=*x", "is not a value"),
    ("learning_rate=@", "is not a value"),
    ("learning_rate=2024-13-45", "expected a number"),
    ("learning_rate=2024-01-01", "expected a number"),
]


@pytest.mark.parametrize(("setting", "message"), BAD, ids=[setting for setting, _ in BAD])
def test_bad_settings_are_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        with_set(setting)
    assert "\n" not in str(caught.value)


def test_dates_stay_text_as_json_has_them() -> None:
    """A run's settings travel as JSON to other processes; YAML itself makes dates of these."""
    text = "{start: 2025-01-06, replenish: {2025-01-20: 20}, at: 2025-01-06 10:30:00}"
    assert load_yaml(text) == {"start": "2025-01-06", "replenish": {"2025-01-20": 20}, "at": "2025-01-06 10:30:00"}
    assert yaml.safe_load(text)["start"].year == 2025


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


# ------------------------------------------------------------------------------------------- agents and their settings

# setting: kind (i integer, f number, b true or false, s text, c choice, d mapping), least and greatest value ("-" for
# none), the choices, then "schedule" and "null" where they are allowed too; a least value in brackets is itself refused
COMMON = """
policy s - -
policy_kwargs d - -
learning_rate f 0 - schedule
batch_size i 2 -
gamma f 0 1
max_grad_norm f 0 -
normalize_observation b - -
normalize_reward b - -
stats_window_size i 1 -
restart_states f 0 1
weight_decay f 0 -
symmetry c - - none augment equivariant
"""
ROLLOUTS = """
n_steps i 1 -
n_epochs i 1 -
gae_lambda f 0 1
rollout_storage c - - auto observations states
"""
EXPLORATION = """
exploration_fraction f (0) 1
exploration_initial_eps f 0 1
exploration_final_eps f 0 1
exploration_spread f 0 -
weight_average f 0 1
"""
SETTINGS_OF_NO_ACTOR_CRITIC = ("max_grad_norm", "normalize_observation", "symmetry")
CONTINUOUS = "\n".join(line for line in COMMON.split("\n") if not line.startswith(SETTINGS_OF_NO_ACTOR_CRITIC))
CONTINUOUS += """
buffer_size i 1 -
learning_starts i 0 -
tau f 0 1
train_freq i 1 -
gradient_steps i -1 -
samples_per_insert f (0) - null
hindsight i 0 -
n_steps i 1 -
"""
PPO_ALONE = """
clip_range f 0 - schedule
clip_range_vf f (0) - schedule null
normalize_advantage b - -
ent_coef f 0 - schedule
vf_coef f 0 -
use_sde b - -
scale_actions b - -
sde_sample_freq i -1 -
target_kl f 0 - null
"""
RULES = {
    "ppo": f"{COMMON}{ROLLOUTS}{PPO_ALONE}",
    "bc": f"{COMMON}{ROLLOUTS}vf_coef f 0 -\nscale_actions b - -\nteacher_share f 0 - schedule",
    "dqn": f"""{COMMON}{EXPLORATION}
buffer_size i 1 -
learning_starts i 0 -
tau f 0 1
train_freq i 1 -
gradient_steps i -1 -
samples_per_insert f (0) - null
hindsight i 0 -
n_steps i 1 -
target_update_interval i 1 -
double_q b - -
huber_delta f 1e-6 -
prioritized_replay f 0 -
""",
    "pqn": f"{COMMON}{ROLLOUTS}{EXPLORATION}",
    "sac": f"{CONTINUOUS}ent_coef f 0 -\ntarget_entropy f -1000 -\ntarget_update_interval i 1 -",
    "td3": f"""{CONTINUOUS}
policy_delay i 1 -
target_policy_noise f 0 -
target_noise_clip f 0 -
exploration_noise f 0 -
exploration_spread f 0 -
""",
}
NOT_RECURRENT = ("use_sde", "sde_sample_freq", "symmetry")
RULES["recurrent-ppo"] = "\n".join(line for line in RULES["ppo"].split("\n") if not line.startswith(NOT_RECURRENT))
RULES["recurrent-ppo"] += "\nhidden_size i 1 -\nsequence_length i 1 - null"
CASES = [(agent, *line.split()) for agent, text in RULES.items() for line in text.split("\n") if line]


REFUSED = ("recurrent-ppo", "restart_states")  # of any size but 0, tests/agents/recurrent


def test_every_setting_has_its_case() -> None:
    for name, cls in AGENTS.items():
        assert sorted(case[1] for case in CASES if case[0] == name) == sorted(options_of(cls))


def test_states_are_asked_for_where_there_are_some() -> None:
    settings = ["rollout_storage=states"]
    for agent in ("ppo", "pqn"):
        with pytest.raises(ConfigError, match=r"^rollout_storage=states: only environments in tensors have states"):
            resolve_config("CartPole-v1", agent, settings=settings)
    with pytest.raises(ConfigError, match=r"^rollout_storage=states: normalize_observation reads all"):
        resolve_config("cartpole", "ppo", settings=[*settings, "normalize_observation=true"])
    assert resolve_config("cartpole", "ppo", settings=settings).agent_kwargs["rollout_storage"] == "states"


def test_schedules_follow_a_score_whose_optimum_is_known() -> None:
    config = resolve_config("cartpole", settings=["learning_rate=score(1e-3,1e-5)", "ent_coef=score(0.1, 0)"])
    assert config.agent_kwargs["learning_rate"] == "score(0.001, 1e-05)"
    made = build_arguments(config)["learning_rate"]
    assert (type(made), made.start, made.end) == (ScoreSchedule, 1e-3, 1e-5)
    for name, settings in (("CartPole-v1", []), ("cartpole", ["env.sticky_actions=0.1"])):
        with pytest.raises(
            ConfigError, match=r"^learning_rate=score\(0.001, 0.0\): the optimum of .* is unknown; use lin"
        ):
            resolve_config(name, settings=["learning_rate=score(1e-3, 0)", *settings])
    with pytest.raises(ConfigError, match=r"expected a number, linear\(start, end\) or score\(start, end\)"):
        resolve_config("cartpole", settings=["learning_rate=scores(1, 0)"])
    with pytest.raises(ConfigError, match=r"learning_rate=-1.0: must be at least 0"):
        resolve_config("cartpole", settings=["learning_rate=score(1, -1)"])


@pytest.mark.parametrize("agent", AGENTS)
def test_episodes_begin_in_earlier_states_where_there_are_some(agent: str) -> None:
    with pytest.raises(ConfigError, match=r"^restart_states=0.5: only environments in tensors have states to begin in"):
        resolve_config("CartPole-v1", agent, settings=["restart_states=0.5"])
    name = "CartPole-v1" if playground(agent) == "cartpole" else "Pendulum-v1"
    assert resolve_config(name, agent, settings=["restart_states=0"]).agent_kwargs["restart_states"] == 0.0


def playground(agent: str) -> str:
    """An environment in which the agent can act."""
    return "cartpole" if AGENTS[agent].can_act(Discrete(2)) else "reach"


def set_one(agent: str, key: str, value: str) -> Any:
    """The setting as it comes out, beside others that it goes with."""
    others = ["n_steps=1", "buffer_size=1e7"] if AGENTS[agent].keeps_replay else ["n_steps=500000", "batch_size=2"]
    if AGENTS[agent].remembers:
        whole = "3000000"  # which each sequence divides
        others = (
            [f"n_steps={whole}", f"batch_size={whole}"] if key == "sequence_length" else [*others, "sequence_length=1"]
        )
    others = [other for other in others if not other.startswith(f"{key}=")]
    config = resolve_config(
        *(playground(agent), agent), num_envs=2, total_timesteps=10**7, settings=[*others, f"{key}={value}"]
    )
    return config.agent_kwargs[key]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[:2] != REFUSED], ids=lambda case: f"{case[0]}-{case[1]}"
)
def test_every_setting_has_its_kind_and_range(case: tuple[str, ...]) -> None:
    agent, key, kind, low, high, *also = case
    good, bad = [], ["[1]", "{a: 1}", "hello"]
    if kind in "if":
        least, excluded = float(low.strip("()")), low.startswith("(")
        for text in (repr(least - 1), *([] if kind == "i" else [repr(least - 1e-9)])):
            with pytest.raises(ConfigError, match=rf"^{key}=.*must be at least {least:g}"):
                set_one(agent, key, text)
        bad += ["true", ".inf", ".nan", *([low.strip("()")] if excluded else [])]
        good += [] if excluded else [least]
        good += [least + 2.0, least + 3.0] if kind == "i" else [least + 0.25, least + 1e-9, least + 1.0]
        (bad if kind == "i" else good).append("1.5" if kind == "i" else 0.5)
        bad += [] if high == "-" else [repr(float(high) + 1e-9), repr(float(high) + 1)]
        good += [1e6] if high == "-" else []
    if kind == "b":
        assert [set_one(agent, key, text) for text in ("true", "false")] == [True, False]
        bad += ["1", "0", "null"]
    if kind == "s":
        assert set_one(agent, key, "MlpPolicy") == "MlpPolicy"
        bad += ["3", "null", "mlppolicy"]
    if kind == "c":
        possible = [text for text in also if text != "states"]
        assert [set_one(agent, key, text) for text in possible] == possible
        bad += ["3", "null", "state", "None", possible[-1][:-1]]
    if kind == "d":
        assert set_one(agent, key, "{net_arch: [8]}") == {"net_arch": [8]}
        bad += ["3", "null"]
        bad.remove("{a: 1}")
    for number in good:
        assert set_one(agent, key, repr(number)) == number
        assert type(set_one(agent, key, repr(number))) is (int if kind == "i" else float)
    if "schedule" in also:
        assert set_one(agent, key, "linear(0.5, 0.25)") == "linear(0.5, 0.25)"
    elif kind in "if":
        bad += ["linear(0.5, 0.25)", "linear(1, 1)", "linear(2, 2)"]
    if "null" in also:
        assert set_one(agent, key, "null") is None
    else:
        bad.append("null")
    for text in bad:
        with pytest.raises(ConfigError, match=f"{key}|unknown policy"):
            set_one(agent, key, text)


@pytest.mark.parametrize("agent", AGENTS)
def test_settings_are_the_constructor_arguments_that_a_model_file_holds(agent: str) -> None:
    """All settings at once build the agent, and whatever a file stores as JSON can be set."""
    cls = AGENTS[agent]
    rules = options_of(cls)
    missing = set(cls._json_arguments) - set(rules) - {"tensorboard_log", "verbose", "seed"}
    assert not missing
    plain = {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [4]}, "stats_window_size": 7}
    model = cls("MlpPolicy", make(playground(agent), 4, "cpu"), n_steps=4, batch_size=16)
    values = {name: plain.get(name, getattr(model, name, None)) for name in rules}
    again = cls(env=make(playground(agent), 4, "cpu"), **values)
    assert again._stats_window_size == 7
    for name in set(rules) - {*plain, "clip_range", "learning_rate", "train_freq"}:
        assert getattr(again, name) == values[name]


AGENT_ERRORS: list[tuple[str, str, str, str]] = [
    ("snake", "dqn", "ent_coef=0", "unknown dqn setting 'ent_coef'; known: policy, "),
    ("snake", "dqn", "gae_lambda=0.9", "unknown dqn setting 'gae_lambda'"),
    ("snake", "dqn", "buffer_sise=9", "unknown dqn setting 'buffer_sise'; did you mean 'buffer_size'"),
    ("snake", "pqn", "buffer_size=9", "unknown pqn setting 'buffer_size'"),
    ("snake", "pqn", "n_step=9", "unknown pqn setting 'n_step'; did you mean 'n_steps'"),
    ("snake", "ppo", "double_q=true", "unknown ppo setting 'double_q'"),
    ("snake", "ppo", "policy=DuelingPolicy", "unknown policy 'DuelingPolicy'"),
    ("snake", "pqn", "policy=CnnPolicy", "unknown policy 'CnnPolicy'"),
    ("snake", "dqn", "policy_kwargs.log_std_init=0", "unknown setting 'policy_kwargs.log_std_init'"),
    ("snake", "dqn", "gradient_steps=0", "gradient_steps=0: nothing would be learned"),
    ("snake", "dqn", "samples_per_insert=0", "samples_per_insert=0: must be above 0, or null"),
    ("snake", "pqn", "exploration_fraction=0", "exploration_fraction=0: must be above 0"),
    ("snake", "pqn", "batch_size=1000001", "batch_size=1000001 does not divide num_envs × n_steps = "),
    ("reach-torque", "dqn", "gamma=0.9", r"dqn needs a Discrete action space, palaestra/PandaReachTorque-v0 has Box\("),
    ("reach", "pqn", "env.control=velocity", r"Reach-v0 with control=velocity has Box.*\(7,\).*: use --agent ppo$"),
    ("Pendulum-v1", "dqn", "gamma=0.9", r"dqn needs a Discrete action space, Pendulum-v1 has Box.*: use --agent ppo$"),
]


@pytest.mark.parametrize(("env", "agent", "setting", "message"), AGENT_ERRORS)
def test_what_an_agent_cannot_do_is_named(env: str, agent: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_config(env, agent, settings=[setting])
    assert "\n" not in str(caught.value)


def test_discrete_moves_make_reach_a_task_for_all_agents() -> None:
    for agent in AGENTS:
        if AGENTS[agent].can_act(Discrete(7)):
            config = resolve_config("reach", agent, settings=["env.control=cartesian"])
            assert config.env_kwargs == {"control": "cartesian"}


def test_a_preset_brings_arguments_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    any_env = load_presets("dqn")[ANY_TENSOR_ENV].agent_kwargs
    reach, none = "palaestra/PandaReach-v0", Preset(4, 100_000, any_env)
    (entry,) = [entry for entry in entries() if entry.id == reach]
    for agent in ("dqn", "pqn"):
        monkeypatch.setitem(load_presets(agent), reach, none)
    assert agents_for(entry) == ["ppo", "sac", "td3", "bc", "recurrent-ppo"]
    with pytest.raises(ConfigError, match="needs a Discrete"):
        resolve_config("reach", "dqn")
    moves = Preset(4, 100_000, any_env, {"control": "cartesian"})
    monkeypatch.setitem(load_presets("dqn"), reach, moves)
    assert agents_for(entry) == ["ppo", "dqn", "sac", "td3", "bc", "recurrent-ppo"]
    assert resolve_config("reach", "dqn").env_kwargs == {"control": "cartesian"}
    assert resolve_config("reach", "dqn", settings=["env.action_delay=1"]).env_kwargs == {
        "control": "cartesian",
        "action_delay": 1,
    }
    with pytest.raises(ConfigError, match="with control=velocity has Box"):
        resolve_config("reach", "dqn", settings=["env.control=velocity"])
    assert moves.env_kwargs == {"control": "cartesian"}


@pytest.mark.parametrize("agent", ["ppo", "dqn", "pqn"])
def test_discrete_actions_may_begin_anywhere(monkeypatch: pytest.MonkeyPatch, agent: str) -> None:
    from gymnasium.spaces import Box, Discrete

    monkeypatch.setattr(
        "palaestra.train.config.run_config.spaces_of", lambda env, kwargs: (Box(-1, 1, (4,)), Discrete(2, start=1))
    )
    assert resolve_config("cartpole", agent).agent == agent


def test_actions_are_scaled_where_there_is_no_preset() -> None:
    """Environments with a preset learn as before; a run's config.yaml stands for itself."""
    scaled = resolve_config("Pendulum-v1", "ppo")
    assert scaled.agent_kwargs["scale_actions"]
    assert "scale_actions" not in resolve_config("reach", "ppo").agent_kwargs
    older = {k: v for k, v in scaled.agent_kwargs.items() if k != "scale_actions"}
    file = scaled.as_dict() | {"agent_kwargs": older}
    assert "scale_actions" not in resolve_config(file=file).agent_kwargs


@pytest.mark.parametrize(("num_envs", "n_steps", "least"), [(64, 1, 1), (64, 2, 65), (8, 20, 153), (1, 3, 3)])
def test_a_replay_memory_that_is_too_small_is_refused_just_where_the_agent_would_fail(
    num_envs: int, n_steps: int, least: int
) -> None:
    def configured(buffer_size: int) -> RunConfig:
        return resolve_config(
            *("cartpole", "dqn"), num_envs=num_envs, settings=[f"buffer_size={buffer_size}", f"n_steps={n_steps}"]
        )

    def learn(buffer_size: int) -> None:
        size: Any = {"n_steps": n_steps, "buffer_size": buffer_size, "samples_per_insert": 1.0}
        DQN("MlpPolicy", make("cartpole", num_envs, "cpu"), **size).learn(2 * num_envs)

    assert configured(least).agent_kwargs["buffer_size"] == least
    learn(least)
    if least > 1:
        with pytest.raises(ConfigError, match=rf"buffer_size={least - 1}: must be above {least - 1} for {num_envs} en"):
            configured(least - 1)
        with pytest.raises(ValueError, match="n_steps"):
            learn(least - 1)


@pytest.mark.parametrize(("num_envs", "total"), [(8, 64), (8, 68), (1, 16)])
def test_a_run_that_would_end_before_it_learns_is_refused(num_envs: int, total: int) -> None:
    def configured(starts: int) -> RunConfig:
        return resolve_config(
            *("cartpole", "dqn"), num_envs=num_envs, total_timesteps=total, settings=[f"learning_starts={starts}"]
        )

    def updates(starts: int) -> int:
        model = DQN(
            "MlpPolicy", make("cartpole", num_envs, "cpu"), learning_starts=starts, train_freq=1, buffer_size=99
        )
        return model.learn(total)._n_updates

    assert configured(total - 1).agent_kwargs["learning_starts"] == total - 1
    assert updates(total - 1) == 1
    with pytest.raises(ConfigError, match=rf"learning_starts={total}: must be below total_timesteps={total}"):
        configured(total)
    assert updates(-(-total // num_envs) * num_envs) == 0


@pytest.mark.parametrize(
    ("num_envs", "settings", "near"),
    [
        (1024, ["n_steps=128", "batch_size=100"], "batch_size=64 or 128, n_steps=125 or 150, num_envs=1000 or 1025"),
        (7, ["n_steps=1", "batch_size=4"], "batch_size=7, num_envs=4 or 8"),
        (1, ["n_steps=1", "batch_size=4096"], ""),
        (2**61, ["n_steps=1", f"batch_size={3 * 2**39}"], ""),  # the search ends
    ],
)
def test_a_batch_size_that_does_not_divide_names_values_that_do(num_envs: int, settings: list[str], near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config("snake-small", "ppo", num_envs=num_envs, settings=settings)
    message, _, proposed = str(caught.value).partition("; near it: ")
    assert "does not divide num_envs × n_steps = " in message
    assert proposed == near
    asked = dict(setting.split("=") for setting in settings) | {"num_envs": str(num_envs)}
    for key, values in re.findall(r"(\w+)=(\d+(?: or \d+)?)", near):
        for value in values.split(" or "):  # each of them alone is accepted
            size = {**asked, key: value}
            assert int(size["num_envs"]) * int(size["n_steps"]) % int(size["batch_size"]) == 0


def test_settings_over_a_stored_configuration() -> None:
    config = resolve_config("snake-small", settings=["env.size=8", "gamma=0.5"])
    changed = with_settings(config, ["env.actions=absolute"])
    assert changed == replace(config, env_kwargs={"size": 8, "actions": "absolute"})
    assert with_settings(config, []) == config
    with pytest.raises(ConfigError, match="size must be an even number"):
        with_settings(config, ["env.size=7"])


# ------------------------------------------------------------------------------------------- config.yaml


def round_trip(config: RunConfig) -> RunConfig:
    return RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.as_dict(), sort_keys=False)))


@pytest.mark.parametrize(("name", "agent"), PAIRS)
def test_presets_survive_yaml(name: str, agent: str) -> None:
    assert round_trip(resolve_config(name, agent)) == resolve_config(name, agent)


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
    config = validated(replace(resolve_config("snake-small"), num_envs=1024.0, total_timesteps=1e6))  # type: ignore[arg-type]
    assert (type(config.num_envs), type(config.total_timesteps)) == (int, int)


@pytest.mark.parametrize("data", [None, [], "x", 3, {}, {"env": "snake"}])
def test_files_that_are_no_configuration_are_refused(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"is a mapping with the keys env, agent, seed|needs the key (env|agent)$"):
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
    with pytest.raises(ConfigError, match="unknown key of a run configuration: 'colour'; known: env, agent"):
        RunConfig.from_dict(resolve_config("snake-small").as_dict() | {"colour": "red"})


# ------------------------------------------------------------------------------------------- --config FILE


def written(path: Path, **content: Any) -> dict[str, Any]:
    path.write_text(yaml.safe_dump(content))
    return read_file(path)


def test_preset_then_file_then_command_line(tmp_path: Path) -> None:
    """Each of the three decides one of gamma, n_epochs and learning_rate; of the environments the file alone."""
    file = written(
        tmp_path / "my.yaml", env="snake-small", num_envs=64, agent_kwargs={"n_epochs": 2, "learning_rate": 1e-4}
    )
    config = resolve_config(file=file, settings=["learning_rate=1e-5"])
    start = preset(resolve("snake-small"), "ppo")
    expected = start.agent_kwargs | {"n_epochs": 2, "learning_rate": 1e-5}
    assert {key: config.agent_kwargs[key] for key in ("n_epochs", "learning_rate")} == {
        key: expected[key] for key in ("n_epochs", "learning_rate")
    }
    assert config.agent_kwargs["n_steps"] == start.agent_kwargs["n_steps"]
    assert (config.num_envs, config.total_timesteps, config.seed) == (64, start.total_timesteps, 0)
    over = resolve_config(file=file, num_envs=128, seed=7, total_timesteps=10_000, checkpoint_every="2m")
    assert (over.num_envs, over.seed, over.total_timesteps, over.checkpoint_every) == (128, 7, 10_000, "2m")


def test_a_whole_file_needs_no_preset(tmp_path: Path) -> None:
    """Settings of the preset are not added to an earlier run."""
    config = resolve_config("snake-small", seed=3, settings=["gamma=0.9"])
    kept = {"policy": "MlpPolicy", "n_steps": 16, "batch_size": 2048, "gamma": 0.9}
    content = config.as_dict() | {"agent_kwargs": kept}
    for name in ("checkpoint_every", "deterministic", "init_from"):
        del content[name]
    again = resolve_config(file=written(tmp_path / "config.yaml", **content))
    assert again.agent_kwargs == kept
    assert (again.seed, again.checkpoint_every, again.deterministic, again.init_from) == (3, "1m", False, None)
    other = resolve_config("snake", file=written(tmp_path / "config.yaml", **content))
    assert other.env == "palaestra/Snake-v0"
    assert other.agent_kwargs == resolve_config("snake").agent_kwargs | kept


@pytest.mark.parametrize(("name", "agent"), [pair for pair in PAIRS if pair[0].startswith("palaestra/")])
def test_a_runs_configuration_gives_the_run_again(name: str, agent: str, tmp_path: Path) -> None:
    config = resolve_config(name, agent, seed=5)
    assert resolve_config(file=written(tmp_path / "config.yaml", **config.as_dict())) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is a mapping with the keys env, agent"),
        ("- 1", "is a mapping with the keys"),
        ("env: [", "is not readable"),
        ("env: 3", "which environment"),
        ("agent: ppo", "which environment"),
        ("env: snake\nagnet: ppo", "unknown key of a run configuration: 'agnet'; did you mean 'agent'"),
        ("env: snake\nagent: sax", "unknown agent 'sax'"),
        ("env: snake\nagent_kwargs: [1]", r"agent_kwargs=\[1\]: expected dict"),
        ("env: snake\nagent_kwargs: {learning_rat: 1}", "unknown ppo setting 'learning_rat'; did you mean"),
        ("env: snake\nagent_kwargs: {learning_rate: -1}", "learning_rate=-1: must be at least 0"),
        ("env: snake\nnum_envs: 0", "num_envs=0: must be at least 1"),
        ("env: snake\nseed: x", "seed=x: expected an integer"),
        ("env: snake\ncheckpoint_every: soon", "checkpoint_every=soon: expected steps"),
        ("env: snake\ncheckpoint_every: -5m", "checkpoint_every=-5m: expected steps"),
        ("env: snake\ncheckpoint_every: 0", "checkpoint_every=0: expected steps"),
        ("env: snake\ndeterministic: maybe", "deterministic=maybe: expected bool"),
        ("env: snake\ninit_from: [a]", "init_from=.*expected a model file"),
        ("env: snake\nenv_kwargs: {sise: 8}", "unknown environment setting 'sise'"),
    ],
)
def test_bad_files_are_config_errors(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve_config(file=read_file(path))


def test_unreadable_files_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.yaml: No such file"):
        read_file(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_file(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not readable"):
        read_file(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    ("text", "steps", "seconds"),
    [
        (5000, 5000, math.inf),
        ("5000", 5000, math.inf),
        ("1e5", 1e5, math.inf),
        ("5m", math.inf, 300),
        (".5m", math.inf, 30),
    ],
)
def test_checkpoint_intervals(text: Any, steps: float, seconds: float) -> None:
    assert checkpoint_interval(text) == (steps, seconds)


def test_state_dependent_exploration() -> None:
    """SB3's policies can squash actions with it alone, and it is for continuous actions."""
    squashed, pendulum, cartpole = {"squash_output": True}, resolve("Pendulum-v1"), resolve("cartpole")
    check_policy("ppo", pendulum, {}, {"use_sde": True, "policy_kwargs": squashed})
    with pytest.raises(ConfigError, match=r"squash_output=True is only available when using gSDE"):
        check_policy("ppo", pendulum, {}, {"policy_kwargs": squashed})
    with pytest.raises(ConfigError, match=r"^use_sde=True is for continuous actions; cartpole has Discrete\(2\)$"):
        check_policy("ppo", cartpole, {}, {"use_sde": True})
