"""Episodes as data sets of other programs: written, and read to be learned from."""
