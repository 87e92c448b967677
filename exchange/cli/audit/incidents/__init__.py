"""An incident: what happened around a party, an officer or an agreement, and what must not be erased meanwhile."""
