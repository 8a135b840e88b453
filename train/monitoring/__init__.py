"""Watching over a policy in use: a log of what it saw and did beside the reference that its contract has."""
