"""Networks, distributions, and their computation by hand.

The names here are those under which model files of format 2 mention classes.
"""

from palaestra.agents.networks.extractors import DuelingPolicy, LayerNormPolicy, SharedMlp

__all__ = ["DuelingPolicy", "LayerNormPolicy", "SharedMlp"]
