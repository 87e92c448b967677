"""`exchange agreement`: what is applied for, answered and granted, in which terms, and what is due."""
