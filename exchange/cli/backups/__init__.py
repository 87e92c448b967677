"""The commands that take, verify and restore backups, of whatever program's home."""
