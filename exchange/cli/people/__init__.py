"""Commands about people: the officers of departments, and the mandates of auditors."""
