"""Generated from proto/exchange/v1; never edited."""
