"""How a request ends that is not answered."""

from exchange.core.decision import Deny


class DenyError(Exception):
    """The request is refused; carries what the refusal says."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.reason)
        self.deny = deny
