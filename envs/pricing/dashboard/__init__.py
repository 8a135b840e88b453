"""Pictures of a selling season."""
