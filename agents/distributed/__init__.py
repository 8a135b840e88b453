"""Process groups that train one agent, and their collective operations."""
