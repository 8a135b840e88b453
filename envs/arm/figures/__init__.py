"""What an arm adds to the report of a run: times, ways to the target, targets that were missed, and limits."""
