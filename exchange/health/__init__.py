"""Whether all is well where a party lives: checks, each with its own time limit, for `doctor`."""
