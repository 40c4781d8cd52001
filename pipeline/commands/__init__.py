"""One module for each command, without output to the terminal."""
