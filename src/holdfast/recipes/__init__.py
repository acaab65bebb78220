"""One file per verb of the command line, each read from top to bottom."""
