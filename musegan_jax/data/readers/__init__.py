"""One file per format.

A reader returns a dataset and a `Skipped` for each file that gave no piece, so that nothing is lost
in silence and one bad file never ends a build.
"""
