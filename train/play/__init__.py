"""A person plays with the keyboard."""
