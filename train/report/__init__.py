"""One self-contained page of HTML on a run, or on several: charts, film, tables, and the data as JSON."""
