"""Bytes that a strict decoder must judge: anything at all, and valid messages with one thing wrong."""

from hypothesis import strategies as st

# A varint and a length-delimited field with numbers that no message has.
UNKNOWN_FIELDS = (b"\xf8\x7f\x01", b"\xfa\x7f\x01x")


def corrupted(valid: bytes) -> st.SearchStrategy[bytes]:
    """Valid bytes with a bit flipped, an end cut or added, a piece repeated, or an unknown field."""
    places = st.integers(0, max(len(valid) - 1, 0))
    return st.one_of(
        st.tuples(places, st.integers(0, 7)).map(lambda at: flip(valid, *at)),
        places.map(lambda end: valid[:end]),
        places.map(lambda start: valid[start:]),
        st.binary(min_size=1, max_size=8).map(lambda tail: valid + tail),
        st.tuples(places, places).map(lambda cut: valid[: cut[0]] + valid[cut[1] :]),
        st.sampled_from(UNKNOWN_FIELDS).flatmap(lambda field: st.sampled_from([valid + field, field + valid])),
        st.just(valid + valid),
    )


def flip(data: bytes, place: int, bit: int) -> bytes:
    """The same with one bit flipped."""
    changed = bytearray(data or b"\0")
    changed[place] ^= 1 << bit
    return bytes(changed)


def anything(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, the valid ones, and those with one thing wrong."""
    return st.one_of(st.binary(), st.sampled_from(valid), st.sampled_from(valid).flatmap(corrupted))
