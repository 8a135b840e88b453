"""Games for two players who take turns, as tensor code."""
