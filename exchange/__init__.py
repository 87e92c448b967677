"""The cross-department data-sharing exchange."""
