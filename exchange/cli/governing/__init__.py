"""What holds for all: purposes, rules and their clocks, guardrails, suspensions, the month's report."""
