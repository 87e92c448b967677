"""The life of a party's keys: rotated, renewed, revoked, recovered, cancelled; and what expires when."""
