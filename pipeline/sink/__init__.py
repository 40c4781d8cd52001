"""The output folder and its protocol."""
