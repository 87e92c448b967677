"""A city in miniature: departments, a broker and an auditor on one machine."""
