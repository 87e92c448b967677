"""What departments already provide of what somebody is about to build or collect."""

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
