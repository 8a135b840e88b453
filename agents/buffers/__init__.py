"""Rollout storage, replay memory, and the limits of memory."""
