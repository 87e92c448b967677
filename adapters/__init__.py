"""What a department runs beside its database: host, ledger, connectors, and `exchange-adapter`."""
