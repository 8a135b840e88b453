"""Distributions of what a policy sees and does in held-out episodes, as its contract keeps them for its users."""
