"""A report: one HTML page on a run or a table, for readers who do not program."""
