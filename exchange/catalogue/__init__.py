"""The catalogue as people use it: searching it, comparing with it, exchanging it with other catalogues."""

from exchange.catalogue.errors import SchemaError
from exchange.catalogue.fields import FieldProfile, Profile, dataset_profile
from exchange.catalogue.readers import KINDS, read_profile
from exchange.catalogue.similar import THRESHOLD, Catalogue, Coverage, FieldMatches, Match, Similar, Source

__all__ = [
    "KINDS",
    "THRESHOLD",
    "Catalogue",
    "Coverage",
    "FieldMatches",
    "FieldProfile",
    "Match",
    "Profile",
    "SchemaError",
    "Similar",
    "Source",
    "dataset_profile",
    "read_profile",
]
