"""What a network makes of single cells, and how far to believe it."""
