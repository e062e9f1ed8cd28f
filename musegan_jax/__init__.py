"""Accompaniment GANs for music: a melody in, a multi-track piece out."""

__version__ = "0.1.0"
