"""The teachers of a run's agent: found by their names, asked for actions, and compared with what was learned."""
