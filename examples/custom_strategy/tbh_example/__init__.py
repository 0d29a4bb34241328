"""Two strategies for TBH, written in Python."""
