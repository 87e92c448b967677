"""Programs that show the exchange at work."""
