"""The rules of each jurisdiction as files, `*.toml` beside this one, and what reads them: deadlines are data."""
