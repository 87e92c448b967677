"""A dataset's descriptor: a TOML file that its steward keeps; errors name the file, the line and the key."""

from exchange.cli.descriptors.reading import OPERATIONS, Descriptor, read_descriptor
from exchange.cli.descriptors.source import DescriptorFileError
from exchange.cli.descriptors.template import TEMPLATE

__all__ = ["OPERATIONS", "TEMPLATE", "Descriptor", "DescriptorFileError", "read_descriptor"]
