"""New packages with an environment."""
