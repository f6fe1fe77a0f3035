"""What must not be seen, taken out of text before it reaches an error or a log. The one home of that rule."""

from __future__ import annotations

import re

#: Longest text kept of an answer's body, in characters.
MAX_BODY = 2000

#: How much more is looked at, so that what is hidden cannot pull an unseen secret into what is shown.
_MARGIN = 8192

#: What stands in its place.
HIDDEN = "[hidden]"

# Names whose values are secret or grant access, in JSON, forms, headers and query strings alike.
_NAMES = (
    r"oauth_token_secret|oauth_signature|oauth_verifier|live_session_token_signature|live_session_token|"
    r"diffie_hellman_response|diffie_hellman_challenge|access_token_secret|access_token|session|sessionId|MAC"
)
_JSON_VALUE = re.compile(rf'("(?:{_NAMES})"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^,}}\]\s]+)')
_PAIR_VALUE = re.compile(rf'\b((?:{_NAMES})=)("[^"]*"?|[^&\s,"]+)')
_AUTHORIZATION = re.compile(r"(?i)\b(authorization\s*:\s*|oauth\s+(?=\w+=))[^\r\n]*")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 .]+-----.*?(?:-----END [A-Z0-9 .]+-----|\Z)", re.DOTALL)
# Some have no name where they stand: a live session token is 28 characters of base64, raw or percent-encoded, and long
# runs of base64 or hex are ciphertexts, signatures and decrypted secrets.
_TOKEN = re.compile(r"(?:[A-Za-z0-9+/]|%2[BbFf]){27}(?:=|%3[Dd])")
_LONG_RUN = re.compile(r"(?:[A-Za-z0-9+/=_-]|%2[BbFf]|%3[Dd]){64,}")
# Paths of files and of calls are long runs as well. They are made of words, as random text of that length is less than
# once in 1e10 times.
_BETWEEN_WORDS = re.compile(r"[/_-]|%2[Ff]")
_WORD = re.compile(r"(?:[A-Z]+|[A-Z]{0,2}[a-z]+(?:[A-Z]{1,2}[a-z]+){0,2})?\d{0,8}")
_MAX_WORD = 20


def redact(text: str, limit: int = MAX_BODY) -> str:
    """`text` without secrets, cut after `limit` characters."""
    length = len(text)
    text = text[: limit + _MARGIN]
    text = _PEM.sub(HIDDEN, text)
    text = _JSON_VALUE.sub(rf'\1"{HIDDEN}"', text)
    text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    text = _PAIR_VALUE.sub(rf"\1{HIDDEN}", text)
    text = _LONG_RUN.sub(lambda run: run[0] if _is_words(run[0]) else HIDDEN, text)
    text = _TOKEN.sub(HIDDEN, text)
    return text if length <= limit + _MARGIN and len(text) <= limit else f"{text[:limit]}… ({length} characters)"


def _is_words(run: str) -> bool:
    return all(len(word) <= _MAX_WORD and _WORD.fullmatch(word) for word in _BETWEEN_WORDS.split(run))


def is_secret_name(name: str) -> bool:
    """Whether the value of a field or parameter of this name is to be hidden."""
    return re.fullmatch(_NAMES, name) is not None


def mask(value: str) -> str:
    """Enough of an identifier to recognise it: the first four characters."""
    return f"{value[:4]}…" if len(value) > 8 else "…"


def without_query(url: str) -> str:
    """The URL as errors and logs may show it."""
    return url.partition("?")[0]


def path_of(url: str) -> str:
    """The path alone, `/` where there is none."""
    return "/" + "/".join(without_query(url).split("/")[3:])
