"""Demand models, their estimation from sales, and their files."""
