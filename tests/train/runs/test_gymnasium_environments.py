"""Other people's Gymnasium environments: all kinds of spaces, images, processes; one clear line where it cannot be."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
import yaml
from gymnasium import spaces

from palaestra.agents import DQN, PPO
from palaestra.envs import EnvError, make, resolve, specs
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import can_act, spaces_of
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "numbers": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "picture": spaces.Box(0, 255, (40, 44, 3), np.uint8),
    "small": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "state": spaces.Discrete(5),
    "states": spaces.MultiDiscrete([3, 4]),
    "flags": spaces.MultiBinary(4),
    "dict": spaces.Dict({"eye": spaces.Box(0, 255, (40, 40, 3), np.uint8), "speed": spaces.Box(-50.0, 50.0, (2,))}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "from one": spaces.Discrete(3, start=1),
    "box": spaces.Box(-2.0, 2.0, (2,)),
    "several": spaces.MultiDiscrete([2, 3]),
    "switches": spaces.MultiBinary(3),
}


class Anything(gymnasium.Env[Any, Any]):
    """Any spaces; five steps; checks every action. Where it can, it shows its step number."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(
        self, observation: str, action: str, seconds: float = 0.0, fails_at: int = -1, render_mode: str | None = None
    ) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.seconds, self.fails_at, self.render_mode = seconds, fails_at, render_mode

    def _observation(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        observation = self.observation_space.sample()
        if isinstance(observation, np.ndarray) and observation.ndim == 3:
            observation[0, 0, :] = (self.steps, 10, 20)  # the pixel in the corner
        return observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), (action, self.action_space)
        if self.steps == self.fails_at:
            raise RuntimeError("the motor is on fire")
        time.sleep(self.seconds)
        self.steps += 1
        return self._observation(), float(np.sum(action)), self.steps == 5, False, {}

    def render(self) -> Any:
        return np.full((20, 30, 3), 40 * self.steps, np.uint8)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register("Any-v0", entry_point=Anything, max_episode_steps=50)
    yield
    del gymnasium.registry["Any-v0"]
    adapter_spaces_cache_clear()


def adapter_spaces_cache_clear() -> None:
    specs._gymnasium_spaces.cache_clear()


SHORT = ["n_steps=8", "batch_size=32", "n_epochs=1"]


@pytest.mark.parametrize(
    ("observation", "action", "policy"),
    [
        ("numbers", "discrete", "MlpPolicy"),
        ("numbers", "from one", "MlpPolicy"),
        ("numbers", "box", "MlpPolicy"),
        ("numbers", "several", "MlpPolicy"),
        ("numbers", "switches", "MlpPolicy"),
        ("picture", "discrete", "CnnPolicy"),
        ("small", "discrete", "MlpPolicy"),
        ("state", "discrete", "MlpPolicy"),
        ("states", "box", "MlpPolicy"),
        ("flags", "discrete", "MlpPolicy"),
        ("dict", "box", "MultiInputPolicy"),
    ],
)
def test_ppo_trains_on_all_kinds_of_spaces(observation: str, action: str, policy: str, tmp_path: Path) -> None:
    settings = [f"env.observation={observation}", f"env.action={action}", *SHORT]
    config = resolve_config("Any-v0", "ppo", num_envs=4, total_timesteps=64, device="cpu", settings=settings)
    assert config.agent_kwargs["policy"] == policy
    result = train(config, RunFolder.new(config, tmp_path / "run"), "disabled")
    assert result.evaluation is not None
    assert result.evaluation.mean_length == 5
    again = PPO.load(tmp_path / "run" / "model.zip", device="cpu")
    batch = make("Any-v0", 3, "cpu", **config.env_kwargs)
    actions = AgentPolicy(again)(batch, batch.reset()[0])
    batch.step(actions)


@pytest.mark.parametrize(("observation", "policy"), [("numbers", "MlpPolicy"), ("picture", "CnnPolicy")])
def test_dqn_trains_too(observation: str, policy: str, tmp_path: Path) -> None:
    settings = [f"env.observation={observation}", "env.action=from one", "learning_starts=16", "buffer_size=128"]
    config = resolve_config("Any-v0", "dqn", num_envs=4, total_timesteps=64, device="cpu", settings=settings)
    assert config.agent_kwargs["policy"] == policy
    result = train(config, RunFolder.new(config, tmp_path / "run"), "disabled")
    assert result.evaluation is not None
    assert isinstance(DQN.load(tmp_path / "run" / "model.zip", device="cpu"), DQN)


def test_images_have_their_channels_first() -> None:
    batch = make("Any-v0", 2, "cpu", observation="picture", action="discrete")
    assert batch.single_observation_space.shape == (3, 40, 44)
    obs, _ = batch.reset()
    assert obs.shape == (2, 3, 40, 44)
    for step in range(1, 6):
        obs, *_, info = batch.step(torch.zeros(2, dtype=torch.int64))
        assert obs[0, :, 0, 0].tolist() == [step % 5, 10, 20]
    assert info["final_obs"][0, :, 0, 0].tolist() == [5, 10, 20]
    eye = make("Any-v0", 2, "cpu", observation="dict", action="box").reset()[0]["eye"]
    assert eye.shape == (2, 3, 40, 40)


def test_vanilla_sb3_sees_the_same_network(tmp_path: Path) -> None:
    """It turns the images itself."""
    batch = make("Any-v0", 4, "cpu", observation="picture", action="discrete")
    model = PPO("CnnPolicy", batch, n_steps=8, batch_size=32, n_epochs=1, seed=0)
    model.learn(32)
    model.save(tmp_path / "model")
    single = gymnasium.make("Any-v0", observation="picture", action="discrete")
    obs, _ = single.reset(seed=0)
    actions, _ = stable_baselines3.PPO.load(tmp_path / "model", device="cpu").predict(obs, deterministic=True)
    turned = torch.as_tensor(obs).permute(2, 0, 1).unsqueeze(0)
    assert int(actions) == int(model.act(turned))


def test_a_failing_worker_gives_its_error_and_leaves_no_process() -> None:
    batch = make("Any-v0", 2, "cpu", observation="numbers", action="box", fails_at=2, vectorization_mode="async")
    batch.reset()
    actions = torch.zeros(2, 2)
    batch.step(actions)
    batch.step(actions)
    with pytest.raises(EnvError, match="the motor is on fire"):
        batch.step(actions)
    batch.close()
    assert not multiprocessing.active_children()


def test_an_interrupted_step_leaves_no_process() -> None:
    """Its workers' answers are still to come when the batch is closed."""
    batch = make("Any-v0", 3, "cpu", observation="numbers", action="box", seconds=0.2, vectorization_mode="async")
    assert isinstance(batch, GymnasiumAdapter)
    batch.reset()

    def interrupted() -> None:
        raise KeyboardInterrupt

    batch.loop._answers = interrupted  # type: ignore[method-assign,union-attr]
    with pytest.raises(KeyboardInterrupt):
        batch.step(torch.zeros(3, 2))
    batch.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("env", "agent", "settings", "message"),
    [
        ("Blackjack-v1", "ppo", [], "agents read observations in Box, Discrete, MultiDiscrete, MultiBinary or a"),
        ("Any-v0", "ppo", [], "Any-v0 cannot be made: TypeError: "),
        ("Any-v0", "ppo", ["env.observation=numbers", "env.action=box", "env.colour=red"], "colour"),
        ("Any-v0", "dqn", ["env.observation=numbers", "env.action=box"], "dqn needs a Discrete action space"),
        ("Any-v0", "pqn", ["env.observation=picture", "env.action=discrete"], "pqn has no CnnPolicy .*: use"),
        ("Any-v0", "pqn", ["env.observation=dict", "env.action=discrete"], "pqn has no MultiInputPolicy .*: use"),
        ("Any-v0", "ppo", ["env.observation=smoke", "env.action=box"], "cannot be made: KeyError: 'smoke' "),
        ("CartPole-v1", "ppo", ["env.colour=red"], "CartPole-v1 cannot be made: TypeError: .*colour"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(env: str, agent: str, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_config(env, agent, settings=settings)
    assert "\n" not in str(caught.value)


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**kwargs: Any) -> None:
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed, run `pip install "gymnasium[box2d]"`')

    gymnasium.register("NeedsMore-v0", entry_point=missing)
    try:
        with pytest.raises(ConfigError, match=r"NeedsMore-v0 cannot be made: DependencyNotInstalled: .*\[box2d"):
            resolve_config("NeedsMore-v0")
    finally:
        del gymnasium.registry["NeedsMore-v0"]


def test_the_agents_that_can_act() -> None:
    able = {name: [agent for agent in AGENTS if can_act(agent, space)] for name, space in ACTIONS.items()}
    assert able == {
        "discrete": ["ppo", "dqn", "pqn", "bc", "recurrent-ppo"],
        "from one": ["ppo", "dqn", "pqn", "bc", "recurrent-ppo"],
        "box": ["ppo", "sac", "td3", "bc", "recurrent-ppo"],
        "several": ["ppo", "bc", "recurrent-ppo"],
        "switches": ["ppo", "bc", "recurrent-ppo"],
    }
    assert not can_act("ppo", spaces.Box(-np.inf, np.inf, (2,)))
    assert spaces_of(resolve("Any-v0"), {"observation": "state", "action": "from one"})[1] == ACTIONS["from one"]


def test_a_network_of_the_preset_gives_way_to_one_for_pictures() -> None:
    settings = ["env.observation=picture", "env.action=discrete", "policy_kwargs.normalize_images=true"]
    config = resolve_config("Any-v0", "dqn", settings=settings)
    assert config.agent_kwargs["policy"] == "CnnPolicy"
    assert config.agent_kwargs["policy_kwargs"] == {"optimizer_kwargs": {"fused": True}, "normalize_images": True}
    assert yaml.safe_load(yaml.safe_dump(config.as_dict())) == config.as_dict()
