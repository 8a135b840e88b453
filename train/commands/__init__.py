"""The commands of ``palaestra``, one a file.

Each file has a function of the command's name, whose signature is the command line and whose docstring is its help;
:mod:`palaestra.train.cli` finds it there. The files import nothing heavy before a command runs.
"""
