"""Parts of the batch: state records, and their rows."""
