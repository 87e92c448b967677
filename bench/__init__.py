"""`make bench`: the exchange beside a bare relay, and what its parts cost."""
