"""Pictures of the arm."""
