"""All figures of one machine in one run of a few minutes, and a table of several processors beside each other."""
