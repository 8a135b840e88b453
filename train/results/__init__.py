"""Results for people to read: reports of evaluations, the list of runs, the grid of all agents and its table."""
