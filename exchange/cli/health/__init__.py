"""How a party stands: `exchange status` and `exchange doctor`."""
