"""A witness: it cosigns a log's checkpoints as long as the log only grows (C2SP tlog-witness)."""
