"""What is to be done, and what it will cost."""
