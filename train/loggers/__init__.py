"""Curves on the screen, in progress.csv and on Weights & Biases."""
