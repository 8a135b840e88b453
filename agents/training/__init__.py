"""What steers training beside the algorithm: where episodes begin, and schedules that follow the score."""
