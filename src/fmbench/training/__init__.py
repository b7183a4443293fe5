"""Train and measure a detector, given a `Config`."""
