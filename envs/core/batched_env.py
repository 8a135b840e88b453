"""The batch that agents train on, whoever runs the rules."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from torch import Tensor

from palaestra.envs.core.errors import EnvError

Obs = Tensor | dict[str, Tensor]
StepResult = tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]


class BatchedEnv(gymnasium.vector.VectorEnv[Any, Tensor, Tensor]):
    """The batch that agents train on: a Gymnasium vector environment whose arrays are tensors on one device.

    ``step`` resets finished rows at once (SAME_STEP) and puts the last observation of each episode, dense, in
    ``info["final_obs"]``. ``info["ended"]`` is False where the host knows that no episode ended.
    :class:`TensorVectorEnv` runs our own environments, the adapters Gymnasium's and SB3's.

    Attributes:
        device: of every tensor in and out.
        seed: of the running episodes.
        env_indices: int64 [N], the global index of each row.
        max_episode_steps: the time limit; None where there is none, or none is known.
        is_on_host: True if it steps few environments on the host, in NumPy.
        alternates: True where a step's reward and the next one's are of two players, see ``TensorEnv.alternates``.
        can_truncate: True if ``truncated`` can ever be True; agents skip the bootstrapping where it cannot.
    """

    device: torch.device
    seed: int
    env_indices: Tensor
    max_episode_steps: int | None = None
    can_truncate: bool = True
    alternates: bool = False
    is_on_host: bool = False

    def records_steps(self, on: bool) -> None:
        """Say whether steps on a CPU may be recorded and replayed, by batches that can; the results are the same."""

    def action_masks(self) -> Tensor | None:
        """The legal discrete actions now, bool [N, A]; None where all are."""
        return None

    def final_action_masks(self) -> Tensor | None:
        """As :meth:`action_masks`, for ``final_obs`` of the latest step."""
        return None

    def infos(self) -> list[dict[str, Any]] | None:
        """What the environments themselves said of the latest step, a copy; None where they say nothing."""
        return None

    def goal_rewards(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Rewards, float32 [B], of steps that lead to ``achieved`` [B, …] while ``desired`` [B, …] is asked for.

        Raises:
            EnvError: if the environment has no such rule (see :mod:`palaestra.envs.goals`), or it does not work.
        """
        raise EnvError("rewards of other goals are asked of Gymnasium's goal environments")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        raise NotImplementedError

    def step(self, actions: Tensor) -> StepResult:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any] | None:
        """All that its future depends on, as tensors and numbers; None where it is unknown."""
        return None

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        raise NotImplementedError
