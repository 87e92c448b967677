"""Programs for developers of the exchange, run by make."""
