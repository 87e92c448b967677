"""The commands of `exchange agreement` that move a case: steps, answers, disputes, and what is told of them."""
