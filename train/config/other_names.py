"""What Stable-Baselines3, its zoo and CleanRL call the options and settings that have another name here."""

from __future__ import annotations

OPTIONS = {
    "--algo": "--agent",
    "--n-timesteps": "--total-timesteps",
    "--timesteps": "--total-timesteps",
    "--steps": "--total-timesteps",
    "-n": "--total-timesteps",
    "--n-envs": "--num-envs",
    "--n-eval-episodes": "--episodes",
    "--n-episodes": "--episodes",
    "--num-episodes": "--episodes",
    "--n-trials": "--trials",
    "--n-jobs": "--jobs",
    "--trained-agent": "--init-from",
    "--save-freq": "--checkpoint-every",
    "--torch-deterministic": "--deterministic",
    "--env-id": "--env",
}
"""Options that mean the same."""

OPTION_HINTS = {
    "--hyperparams": "--set KEY=VALUE",
    "--env-kwargs": "--set env.KEY=VALUE",
    "--cuda": "--device cuda",
    "--gpu": "--device cuda",
    "--cpu": "--device cpu",
    "--wandb": "--track online",
    "--no-wandb": "--track disabled",
    "--tensorboard-log": "--track online",
    "--log-folder": "--run-dir DIR",
    "--exp-name": "--run-dir DIR",
    "--continue": "--resume RUN",
}
"""What options of other programs come near to."""

COMMANDS = {
    "enjoy": "watch",
    "render": "watch",
    "test": "evaluate",
    "list": "runs",
    "ls": "runs",
    "delete": "rm",
    "remove": "rm",
    "optimize": "sweep",
    "tune": "sweep",
    "benchmark": "bench",
}
"""Commands that do the same."""

SETTINGS = {
    "lr": "learning_rate",
    "n_timesteps": "total_timesteps",
    "n_envs": "num_envs",
    "update_epochs": "n_epochs",
    "minibatch_size": "batch_size",
    "clip_coef": "clip_range",
    "net_arch": "policy_kwargs.net_arch",
    "activation_fn": "policy_kwargs.activation_fn",
    "frame_stack": "env.frame_stack",
}
"""Settings that mean the same."""
