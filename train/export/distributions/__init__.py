"""Distributions of what a policy sees and does in held-out episodes, which its contract keeps for those who watch it."""
