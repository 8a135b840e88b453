"""Threads and processes that train: the threads of one, the processes of torchrun, and children."""
