"""A training run: folder, checkpoints, callbacks, failures."""
