"""Demand from the choices of buyers: the conditional logit, the market that it makes, and yogurt as an example."""
