"""Trained agents as one network from an environment's observations to its actions, for use outside this suite."""
