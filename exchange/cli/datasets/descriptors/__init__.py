"""A dataset's descriptor: a TOML file that its steward keeps; errors name the file, the line and the key."""

from exchange.cli.datasets.descriptors.reading import OPERATIONS, Descriptor, read_descriptor
from exchange.cli.datasets.descriptors.source import DescriptorFileError
from exchange.cli.datasets.descriptors.template import TEMPLATE

__all__ = ["OPERATIONS", "TEMPLATE", "Descriptor", "DescriptorFileError", "read_descriptor"]
