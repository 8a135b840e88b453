"""A training run: folder, checkpoints, interruptions, failures."""
