"""The `exchange-audit` command; it runs none of the broker's code."""
