"""Sales that are choices: a column for each alternative, and columns that describe alternatives."""
