"""The benchmark's files on disk: the only place that knows their names and axes."""
