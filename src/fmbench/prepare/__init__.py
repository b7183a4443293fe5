"""What `fmbench data …` does: raw files to a checked data set that can be trained on."""
