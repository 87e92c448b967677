"""The errors of the core: what it raises for input that it cannot accept.

CoreError (a ValueError)
├── NameFormatError   a party's name or a code is not in its one accepted form
├── ProofError        a Merkle path, root or position does not hold
├── NoteError         a signed note, verifier key or checkpoint is malformed or not signed by a known key
│   └── UnsignedError it is well formed, but no known key has signed it, or a known key's signature fails
├── DecodeError       wire bytes are not the one encoding of a value
├── VersionError      two programs speak no common version of the protocol
├── SignatureError    an envelope's signature does not verify
└── SealError         a capsule or ciphertext does not open

A refusal is not an error: a decision returns it as a value.
"""


class CoreError(ValueError):
    """Root of every error that the core raises on purpose."""


class NameFormatError(CoreError):
    """A party's name or a code is not in its one accepted form."""


class ProofError(CoreError):
    """A Merkle path, root or position does not hold."""


class NoteError(CoreError):
    """A signed note, verifier key or checkpoint is malformed or not signed by a known key."""


class UnsignedError(NoteError):
    """A note is well formed, but no known key has signed it, or a known key's signature fails."""


class DecodeError(CoreError):
    """Wire bytes are not the one encoding of a value."""


class VersionError(CoreError):
    """Two programs speak no common version of the protocol."""


class SignatureError(CoreError):
    """An envelope's signature does not verify."""


class SealError(CoreError):
    """A capsule or ciphertext does not open."""
