"""The operator's commands: an exchange is founded, its brokers run, its logs are kept."""
