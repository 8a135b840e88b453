"""Agents that learn from what was done at other times: their collection step by step, their memory, SAC and TD3."""
