"""The commands that take a trained agent to where it is used."""
