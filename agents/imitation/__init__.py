"""Learning from a teacher: what it does is cloned, and reinforcement learning goes on from there."""
