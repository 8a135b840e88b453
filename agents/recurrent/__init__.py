"""Agents with a memory: what they have seen in an episode so far."""
