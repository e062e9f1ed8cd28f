"""One file per format.

A reader returns a dataset and a `Skipped` for each file that gave no piece: no file is dropped
silently, and one bad file does not stop a build.
"""
