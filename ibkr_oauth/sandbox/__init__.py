"""IBKR in a box: a loopback server that plays Interactive Brokers and verifies every byte.

An independent oracle: it shares no code with the rest of the package, only the protocol.
"""

import logging

from .crypto import ExchangeShape
from .faults import DropStage
from .orders import Order
from .record import RecordedRequest
from .server import Sandbox
from .state import QueryRule, RegisteredConsumer
from .web_sockets import ConnectedWebSocket

__all__ = [
    "ConnectedWebSocket",
    "DropStage",
    "ExchangeShape",
    "Order",
    "QueryRule",
    "RecordedRequest",
    "RegisteredConsumer",
    "Sandbox",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
