"""The generator and the critic."""
