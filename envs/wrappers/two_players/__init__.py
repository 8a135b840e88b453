"""Games for two seen by one of the players, with the opponents that the other one may be."""
