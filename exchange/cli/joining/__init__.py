"""Who joins, by invite or by files: the parent's side, the newcomer's, and the root's that is kept offline; who leaves."""
