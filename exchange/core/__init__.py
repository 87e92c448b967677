"""The pure core: no sockets, files, clock, randomness or logging; `now` and nonces are arguments."""
