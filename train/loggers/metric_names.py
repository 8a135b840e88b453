"""Columns of ``progress.csv`` that every row, or every iteration's row, has."""

STEP, ITERATION = "global_step", "time/total_timesteps"
