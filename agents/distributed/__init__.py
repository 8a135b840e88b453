"""Several processes that train one agent."""
