"""Held-out episodes and their statistics."""
