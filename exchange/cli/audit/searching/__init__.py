"""What a person may search by, and the rows that fit: out of the mirror, or by the broker's index."""
