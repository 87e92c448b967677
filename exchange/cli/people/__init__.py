"""People: stewards, heads and officers of departments, and the mandates of auditors."""
