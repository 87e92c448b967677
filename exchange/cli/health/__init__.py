"""`exchange doctor`."""
