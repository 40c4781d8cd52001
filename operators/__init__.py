"""Plain callables, Arrow table to Arrow table: the same ones run in a for-loop and on Ray."""
