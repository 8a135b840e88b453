"""``python -m palaestra.train`` is the ``palaestra`` command, for torchrun to start."""

from palaestra.train.cli import main

if __name__ == "__main__":
    main()
