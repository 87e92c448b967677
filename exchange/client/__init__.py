"""The SDK: transport, directory mirror, requests and the verification of their answers."""

from exchange.client.answers import Answer
from exchange.client.calls import GrpcTransport, Transport
from exchange.client.client import ExchangeClient
from exchange.client.errors import (
    BrokenLogError,
    DirectoryDiffersError,
    EvidenceError,
    ExchangeError,
    ForkError,
    RefusedError,
    ResponseInvalidError,
    RollbackError,
    StaleError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from exchange.client.questions import lookup_query, selection_query
from exchange.client.sealer import Prepared
from exchange.client.session import Appended, Session
from exchange.client.sync import SyncExchangeClient

__all__ = [
    "Answer",
    "Appended",
    "BrokenLogError",
    "DirectoryDiffersError",
    "EvidenceError",
    "ExchangeClient",
    "ExchangeError",
    "ForkError",
    "GrpcTransport",
    "Prepared",
    "RefusedError",
    "ResponseInvalidError",
    "RollbackError",
    "Session",
    "StaleError",
    "SyncExchangeClient",
    "Transport",
    "UnavailableError",
    "UntrustedError",
    "UsageError",
    "lookup_query",
    "selection_query",
]
