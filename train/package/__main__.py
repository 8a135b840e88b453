"""``python -m palaestra`` is the ``palaestra`` command."""

from palaestra.train.cli import main

if __name__ == "__main__":
    main()
