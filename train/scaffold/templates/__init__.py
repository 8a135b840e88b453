"""The files that ``palaestra new`` starts from; :mod:`palaestra.train.scaffold.scaffold` writes these files with their
names replaced."""
