"""Where the logs are kept: ports with their promises, a SQL implementation and its in-memory twin."""
