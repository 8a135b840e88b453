"""Runs beside runs: groups of seeds, statistics of Agarwal et al. (2021), curves, a table and a page."""
