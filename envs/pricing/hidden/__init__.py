"""Pricing when what customers want depends on a regime that nobody sees."""
