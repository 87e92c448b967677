"""Backups: one file with everything that a home holds, taken while its program runs, signed by the home's key."""
