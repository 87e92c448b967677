"""What is checked of both logs, and what is found: trees, entries, signatures, witnesses. It reads no mirror."""
