"""The experiments of the paper, and what goes beyond them, as commands on any crop set."""
