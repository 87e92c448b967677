"""The revisions, each named for its number and what it brings."""
