"""The catalogue as people use it: searching it, comparing with it, exchanging it with other catalogues."""
