"""The files of a checkpoint: its weights in every format, and what they are."""
