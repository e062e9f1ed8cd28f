"""Sound and pictures."""
