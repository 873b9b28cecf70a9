"""The detector network: its fields, its training, and what is measured of it."""
