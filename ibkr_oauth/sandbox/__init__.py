"""IBKR in a box: a loopback server that plays Interactive Brokers and verifies every byte.

An independent oracle: it shares no code with the rest of the package, only the protocol.
"""

import logging

from .crypto import ExchangeShape
from .record import RecordedRequest
from .server import Sandbox
from .state import QueryRule, RegisteredConsumer

__all__ = ["ExchangeShape", "QueryRule", "RecordedRequest", "RegisteredConsumer", "Sandbox"]

logging.getLogger(__name__).addHandler(logging.NullHandler())
