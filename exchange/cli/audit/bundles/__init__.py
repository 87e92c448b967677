"""The file that holds entries with all that proves them."""
