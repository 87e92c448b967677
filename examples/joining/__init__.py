"""How long a department takes to join: from the invite to the first answer that another department verified."""
