"""Joining by invite: the parent's side, the newcomer's, and the root's that is kept offline."""
