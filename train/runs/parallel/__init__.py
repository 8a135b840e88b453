"""Threads and processes that train: the threads of one, processes of torchrun or of our own, and children."""
