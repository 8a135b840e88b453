"""Curves on the screen, in progress.csv and on Weights & Biases."""

STEP, ITERATION = "global_step", "time/total_timesteps"  # columns; the second is empty in the final evaluation's row
