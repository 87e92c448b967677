"""What the auditor's home keeps of both logs: fetched from a broker, stored, indexed, and read again."""
