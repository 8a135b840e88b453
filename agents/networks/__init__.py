"""Networks, distributions and their derivatives."""
