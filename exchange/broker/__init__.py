"""The broker: commands, thin gRPC services, the tunnel to adapters, the relay."""
