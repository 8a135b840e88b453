"""Functions of an agent that are recorded once and replayed: CUDA graphs."""
