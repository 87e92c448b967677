"""Masks: what a requester sees in place of a value (docs/protocol.md, section 10). A filter reads the same."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from exchange.core.errors import CoreError
from exchange.core.filters import FilterError, Scalar, scalar, scalar_text
from exchange.v1.access_pb2 import Code
from exchange.v1.request_pb2 import Value
from exchange.v1.terms_pb2 import Mask

SECRET = 32
STAR = "*"

_PURPOSE = b"exchange.v1/mask"
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class MaskError(CoreError):
    """A mask does not fit the value that it is for; the text repeats neither."""


@dataclass(frozen=True, slots=True)
class Masking:
    """The masks of one agreement, by field, with the key of its hashes; without masks it changes nothing."""

    masks: Mapping[str, Mask] = field(default_factory=lambda: MappingProxyType({}))
    key: bytes = field(default=b"", repr=False)

    def value(self, name: str, value: Scalar | None) -> Scalar | None:
        """What a requester sees of a field's value.

        Raises:
            MaskError: the field's mask is for values of another type.
        """
        mask = self.masks.get(name)
        return value if mask is None else mask_value(mask, value, self.key)

    def row(self, row: Mapping[str, Scalar | None]) -> dict[str, Scalar | None]:
        """A whole row, as `value` has it."""
        return {name: self.value(name, value) for name, value in row.items()}

    @property
    def hashed(self) -> frozenset[str]:
        """The fields that are seen as hashes."""
        return frozenset(name for name, mask in self.masks.items() if mask.WhichOneof("rule") == "hash")


def hash_key(secret: bytes, agreement: bytes) -> bytes:
    """The key of an agreement's hashes: HMAC-SHA-256(secret, "exchange.v1/mask" ‖ object id), 32 bytes.

    Args:
        secret: of the provider's system, 32 bytes.
        agreement: object id, 16 bytes: the hashes stay the same over all versions.
    """
    return hmac.digest(secret, _PURPOSE + agreement, hashlib.sha256)


def mask_value(mask: Mask, value: Scalar | None, key: bytes) -> Scalar | None:
    """What a mask leaves of a value; NULL stays NULL.

    Args:
        mask: the rule.
        value: of a type that the rule fits.
        key: of the agreement's hashes, 32 bytes; unused by other rules.

    Raises:
        MaskError: the rule is unknown, or not for values of this type.
    """
    if value is None:
        return None
    match mask.WhichOneof("rule"), value:
        case "first", str():
            return _starred(value, mask.first, shown_first=True)
        case "last", str():
            return _starred(value, mask.last, shown_first=False)
        case "year_only", date():
            return value.year
        case "hash", _ if key and not isinstance(value, bool):
            return keyed_hash(key, value)
    raise MaskError("the mask does not fit the field's values")


def keyed_hash(key: bytes, value: Scalar) -> str:
    """HMAC-SHA-256 (RFC 2104) of a value's text, in 64 hexadecimal digits; equal numbers have one text."""
    text = scalar_text(value)
    if isinstance(value, Decimal):
        # By hand: Decimal.normalize rounds to 28 digits.
        text = text.rstrip("0").rstrip(".") if "." in text else text
        text = "0" if text == "-0" else text
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def can_be_masked(mask: Mask, value: Scalar) -> bool:
    """Whether a mask can leave this of a value: a key that it cannot leave would find nothing, without a word."""
    rule = mask.WhichOneof("rule")
    if rule == "hash":
        return isinstance(value, str) and _HASH.fullmatch(value) is not None
    if rule in {"first", "last"} and isinstance(value, str):
        shown = getattr(mask, rule) if len(value) > getattr(mask, rule) else 0
        hidden = value[shown:] if rule == "first" else value[: len(value) - shown]
        return hidden == STAR * len(hidden)
    return True


def check_keys(keys: Sequence[Value], mask: Mask | None, most: int) -> None:
    """Checks the keys of a lookup against an agreement, once their form is checked.

    Args:
        keys: as they are asked for.
        mask: the agreement's, of the dataset's key.
        most: how many the agreement grants at a time; 0 is no limit.

    Raises:
        FilterError: more of them, or one that the mask cannot leave.
    """
    if most and len(keys) > most:
        raise FilterError(Code.CODE_MALFORMED, f"under this agreement a lookup asks for at most {most:,} keys")
    if mask is not None and not all(can_be_masked(mask, scalar(key)) for key in keys):
        reason = "under this agreement the key is masked: a lookup gives keys as answers show them"
        raise FilterError(Code.CODE_MALFORMED, reason)


def _starred(text: str, shown: int, *, shown_first: bool) -> str | None:
    """`shown` characters of a longer text; of one that is no longer nothing is shown, or all of it would be."""
    # SQL's length ends at U+0000, which no text of a question can hold either: no engine may see more than this.
    if "\0" in text:
        return None
    hidden = len(text) - shown
    if hidden <= 0:
        return STAR * len(text)
    return text[:shown] + STAR * hidden if shown_first else STAR * hidden + text[hidden:]
