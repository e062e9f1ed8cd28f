"""Measures of the music itself."""
