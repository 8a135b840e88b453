"""Pictures and windows; imports pygame."""
