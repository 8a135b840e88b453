"""Importing this module registers the environment; palaestra and gymnasium.make do that by themselves."""

from palaestra.envs import register

register("my_env/MyEnv-v0", "my_env.env:MyEnv", "my_env", "SUMMARY")
