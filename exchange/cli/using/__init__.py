"""Records are asked for; what became of them, and what was wrong in them."""
