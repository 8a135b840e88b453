"""What agents make of the symmetries of their environments: frames to learn in, and weights that are tied."""
