"""Interactive Brokers' Web API over OAuth 1.0a, complete and unattended."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import AsyncSession
    from .health import BrokerageStatus, Counters, Event, Health

from . import errors, signing
from ._core import DHExchange, Secret
from .consumer import Consumer, DHParameters, PrivateKey
from .errors import *  # noqa: F403 - errors.__all__ is the tree in its docstring
from .oauth import OAuthClient
from .session import Session
from .signing import SignedRequest, Signer
from .tokens import AccessToken, LiveSessionToken, RequestToken
from .transport import Response

__all__ = [
    "AccessToken",
    "AsyncSession",
    "BrokerageStatus",
    "Consumer",
    "Counters",
    "DHExchange",
    "DHParameters",
    "Event",
    "Health",
    "LiveSessionToken",
    "OAuthClient",
    "PrivateKey",
    "RequestToken",
    "Response",
    "Secret",
    "Session",
    "SignedRequest",
    "Signer",
    "errors",
    "signing",
]
__all__ += errors.__all__


def __getattr__(name: str) -> object:
    """What not every program needs, imported when it is asked for: asyncio takes longer than all the rest."""
    if name == "AsyncSession":
        from .aio import AsyncSession  # noqa: PLC0415

        return AsyncSession
    if name in ("BrokerageStatus", "Counters", "Event", "Health"):
        from . import health  # noqa: PLC0415

        return getattr(health, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
