"""Sales as people have them, read into one table: files, numbers, dates, names of columns, receipts and choices."""
