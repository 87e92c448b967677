"""Who joins, by invite or by files: the parent's side, the newcomer's, the offline root's; and who leaves."""
