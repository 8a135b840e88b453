"""Losses, gradients and weights that are not finite, and memory that runs out: training stops and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palaestra.agents import DQN, PPO, PQN, DivergedError
from palaestra.agents.buffers import memory_limits
from palaestra.envs import make
from palaestra.envs.core.errors import is_out_of_memory
from palaestra.train.commands.train import resume_run, start_run
from palaestra.train.config.run_config import resolve_config
from palaestra.train.runs.failures import RunFailed, explained
from palaestra.train.runs.run_folder import RunFolder

SETTINGS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 4, "batch_size": 32, "n_epochs": 1},
    DQN: {"buffer_size": 1000, "learning_starts": 0, "batch_size": 16, "train_freq": 4},
    PQN: {"n_steps": 4, "batch_size": 32},
}


def model(kind: Any) -> Any:
    return kind("MlpPolicy", make("cartpole", 8, "cpu"), seed=0, **SETTINGS[kind])


class Spoil:
    """From the given call on, numbers that are not finite."""

    def __init__(self, what: str, call: int) -> None:
        self.what, self.call, self.calls = what, call, 0

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls < self.call:
            return value
        return value * (torch.nan if self.what == "loss" else torch.inf)


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
def test_a_loss_or_gradient_that_is_not_finite_stops(
    kind: Any, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = model(kind)
    agent.learn(64)
    agent.save(tmp_path / "model.zip")
    good = (tmp_path / "model.zip").read_bytes()
    spoil = Spoil(what, 3)
    if kind is PPO:
        learn = agent._actor_critic.learn

        def spoiled(*arguments: Any) -> None:
            *rest, value_loss = arguments
            by_values = {"loss": lambda v: value_loss(spoil(v)), "gradient": lambda v: spoil(value_loss(v))}
            learn(*rest, by_values[what])

        monkeypatch.setattr(agent._actor_critic, "learn", spoiled)
    else:
        forward, backward = agent._online.forward, agent._online.backward
        if what == "gradient":
            monkeypatch.setattr(agent._online, "backward", lambda first, *rest: backward(spoil(first), *rest))
        else:
            monkeypatch.setattr(agent._online, "forward", lambda obs: spoil(forward(obs)))
    expected = "the loss is not finite" if what == "loss" else "the norm of the gradient is not finite"
    if what == "gradient" and kind is not PPO:
        expected = "is not finite"  # later updates of the same report may have a loss that is not, too
    with pytest.raises(DivergedError, match=expected):
        agent.learn(8 * 64 * 3, reset_num_timesteps=False)
    assert spoil.calls < 3 + 64 * 3
    with pytest.raises(DivergedError, match=r"not finite at step [\d,]+: not saved"):
        agent.save(tmp_path / "model.zip")
    assert (tmp_path / "model.zip").read_bytes() == good


def test_values_that_are_not_finite_are_not_the_environments_fault() -> None:
    agent = model(PPO)
    agent.learn(32)
    with torch.no_grad():
        agent.policy.value_net.bias.fill_(torch.inf)
    with pytest.raises(DivergedError, match="values of observations are not finite"):
        agent.learn(32, reset_num_timesteps=False)


def test_a_constant_return_is_no_divergence() -> None:
    """The explained variance of returns without variance is not finite."""
    agent = PPO("MlpPolicy", make("cartpole", 1, "cpu"), n_steps=2, batch_size=2, gamma=0.0, gae_lambda=0.0, seed=0)
    agent.learn(8)
    agent._record_losses([0.0] * 7 + [-torch.inf, 1.0])
    agent._refuse_divergence()


@pytest.fixture
def diverging_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a checkpoint each iteration whose tenth update is spoiled."""
    real, count = PPO.train, 0

    def train(self: Any) -> None:
        nonlocal count
        count += 1
        if count == 10:
            with torch.no_grad():
                self.policy.action_net.weight.fill_(torch.nan)
        real(self)

    monkeypatch.setattr(PPO, "train", train)
    sizes = {"num_envs": 8, "total_timesteps": 8 * 8 * 20, "checkpoint_every": 64}
    settings = ["n_steps=8", "batch_size=64"]
    with pytest.raises(RunFailed) as caught:
        start_run("cartpole", "ppo", tmp_path / "a run", "disabled", settings=settings, **sizes)
    text = str(caught.value)
    assert text.startswith("training has diverged: ")
    assert "The checkpoint of step 576 is kept" in text
    assert f"--init-from '{tmp_path / 'a run'}'" in text
    assert "learning_rate" in text
    assert "\n" not in text
    return tmp_path / "a run"


def test_the_last_good_checkpoint_is_kept(diverging_run: Path) -> None:
    """The update after step 640 goes wrong; what was saved before it is finite and goes on."""
    assert [int(path.stem) for path in RunFolder(diverging_run).checkpoints()] == [576, 512]
    agent = PPO.load(diverging_run / "model.zip", device="cpu")
    assert agent.num_timesteps == 576
    resume_run(str(diverging_run), "disabled")
    assert (diverging_run / "eval.json").is_file()


# --------------------------------------------------------------------------------------------------- memory


def test_memories_that_do_not_fit_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory_limits._free(torch.device("cpu"))
    assert free is None or free > 2**20
    monkeypatch.setattr(memory_limits, "_free", lambda device: 2**20)
    agent = DQN("MlpPolicy", make("cartpole", 8, "cpu"), buffer_size=100_000, learning_starts=0)
    with pytest.raises(MemoryError, match=r"replay memory of 100,008 transitions \(buffer_size\) needs 0.0 GiB"):
        agent.learn(64)
    agent = PPO("MlpPolicy", make("cartpole", 4096, "cpu"), n_steps=32, batch_size=4096)
    with pytest.raises(MemoryError, match=r"a rollout of 32 steps of 4,096 environments \(n_steps\) needs"):
        agent.learn(64)


def test_the_bytes_are_those_that_are_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("palaestra.agents.buffers.replay.require", lambda size, *args: asked.append(size))
    monkeypatch.setattr("palaestra.agents.buffers.rollout.require", lambda size, *args: asked.append(size))
    agent = DQN("MlpPolicy", make("cartpole", 8, "cpu"), buffer_size=1000, learning_starts=0)
    agent.learn(64)
    replay: Any = agent.replay
    parts = (*replay.content.values(), replay.actions, replay.rewards, replay.kinds)
    assert asked.pop() == memory_limits.nbytes(parts)
    for env in ("cartpole", "snake-small", "reach"):
        rollouts = PPO("MlpPolicy", make(env, 8, "cpu"), n_steps=8, batch_size=64)
        rollouts.learn(64)
        kept = vars(rollouts.rollout_buffer)
        moments = kept["moments"].values() if isinstance(kept["moments"], dict) else ()
        tensors = [*moments, *(v for v in kept.values() if isinstance(v, torch.Tensor))]
        assert asked.pop() == memory_limits.nbytes(tensors) - memory_limits.nbytes([kept["_sums"]])


def test_limits_of_machine_and_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:      64 kB\n")
    assert memory_limits._of_machine(tmp_path / "meminfo") == 64 * 1024
    assert memory_limits._of_machine(tmp_path / "nothing") is None
    assert memory_limits._of_container(tmp_path) is None
    for name, text in (("max", "1000\n"), ("current", "700\n"), ("stat", "anon 1\ninactive_file 30\nactive_file 20\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory_limits._of_container(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limits._of_container(tmp_path) is None


def test_out_of_memory_names_the_settings(tmp_path: Path) -> None:
    config = resolve_config("snake-small", "dqn")
    with pytest.raises(RuntimeError) as allocator:  # the CPU's allocator has no exception of its own
        torch.empty(2**50)
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), allocator.value):
        failure = explained(error, config, RunFolder(tmp_path))
        assert isinstance(failure, RunFailed)
        assert f"Lower num_envs ({config.num_envs}), buffer_size ({config.agent_kwargs['buffer_size']})" in str(failure)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert explained(RuntimeError("shapes do not match"), config, RunFolder(tmp_path)) is None
