"""Model files: safe to read, whole or not there, exact to the bit."""
