"""parfocal: which cells are in this flask, how sure is that, and is the flask like any seen."""

__version__ = "0.1.0"
