"""The grid of environments, agents and seeds, and its table."""
