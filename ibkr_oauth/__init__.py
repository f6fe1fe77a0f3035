"""Interactive Brokers' Web API over OAuth 1.0a, complete and unattended."""

import logging

from . import errors, signing
from ._core import DHExchange, Secret
from .consumer import Consumer, DHParameters, PrivateKey
from .errors import *  # noqa: F403 - errors.__all__ is the tree in its docstring
from .oauth import OAuthClient
from .signing import SignedRequest, Signer
from .tokens import AccessToken, LiveSessionToken, RequestToken
from .transport import Response

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "AccessToken",
    "Consumer",
    "DHExchange",
    "DHParameters",
    "LiveSessionToken",
    "OAuthClient",
    "PrivateKey",
    "RequestToken",
    "Response",
    "Secret",
    "SignedRequest",
    "Signer",
    "errors",
    "signing",
]
__all__ += errors.__all__
