"""What several processes can share, without starting any: known answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.parallel import torchrun


@pytest.mark.parametrize(
    ("agent", "num_envs", "batch_size", "message"),
    [
        ("ppo", 1024, 96, "num_envs=1024: 3 processes cannot share them equally; near it: num_envs=1023 or 1026"),
        ("ppo", 1026, 128, "batch_size=128: 3 processes cannot share it equally; near it: batch_size=114 or 144"),
        ("dqn", 255, 128, "batch_size=128: 3 processes cannot share it equally; near it: batch_size=126 or 129"),
        ("dqn", 255, 126, ""),
    ],
)
def test_what_cannot_be_shared_names_what_can(
    agent: str, num_envs: int, batch_size: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"batch_size={batch_size}", *(["n_steps=192"] if agent == "ppo" else [])]
    config = resolve_config("cartpole", agent, num_envs=num_envs, settings=settings)
    monkeypatch.setattr(torchrun, "process_group", lambda: SimpleNamespace(size=3))
    if not message:
        torchrun.check_shares(config)
        return
    with pytest.raises(ConfigError) as caught:
        torchrun.check_shares(config)
    assert str(caught.value) == message
