"""What was found, and the one sentence that it comes down to."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from ibkr_oauth.errors import IBKROAuthError

State: TypeAlias = Literal["good", "bad", "warning", "skipped"]

#: Steps in their order. Those from `_FIRST_ONLINE` on ask the service.
STEPS: dict[str, str] = {
    "libraries": "Libraries",
    "settings": "Settings",
    "consumer_key": "Consumer key",
    "realm": "Realm",
    "signing_key": "Signing key",
    "encryption_key": "Encryption key",
    "dh_params": "Diffie-Hellman parameters",
    "permissions": "File permissions",
    "access_token": "Access token",
    "access_token_secret": "Access token secret",
    "key_roles": "Which key is which",
    "base_url": "Address of the API",
    "ca_file": "Certificate authorities",
    "environment": "Environment",
    "name": "Host name",
    "tcp": "Connection (TCP)",
    "tls": "Encryption (TLS)",
    "edge": "Network edge",
    "service": "Service",
    "clock": "Clock",
    "live_session_token": "Live session token",
    "token_signature": "Its signature",
    "portfolio": "A signed call (/portfolio)",
    "brokerage": "Brokerage session",
    "competing": "Competing login",
    "query_signing": "Signing of queries",
}
_FIRST_ONLINE = "name"
ONLINE = tuple(STEPS)[tuple(STEPS).index(_FIRST_ONLINE) :]


class Finding(NamedTuple):
    """One step. `id`: of the step, one of `STEPS`. `title`: the same for people.

    `detail`: what was found. `advice`: what to do next, empty where nothing is to be done. `cause`: a stable word for
    what is wrong, None where nothing is. `kind`: the error that the library raises for it.
    """

    id: str
    title: str
    state: State
    detail: str
    advice: str = ""
    cause: str | None = None
    kind: type[IBKROAuthError] | None = None


class Report(NamedTuple):
    """All findings, in the order of the steps. `asked_service`: False where only files and values were checked."""

    findings: tuple[Finding, ...]
    asked_service: bool

    @property
    def good(self) -> bool:
        """Whether nothing is wrong; there may be warnings."""
        return not any(one.state == "bad" for one in self.findings)

    @property
    def deciding(self) -> Finding | None:
        """The finding that the verdict is about: the first that is bad, or else the first warning."""
        for state in ("bad", "warning"):
            for one in self.findings:
                if one.state == state:
                    return one
        return None

    @property
    def cause(self) -> str | None:
        """The stable word of the deciding finding; None where all is good."""
        return None if self.deciding is None else self.deciding.cause

    @property
    def verdict(self) -> str:
        """One sentence."""
        deciding = self.deciding
        if deciding is not None and deciding.state == "bad":
            return sentence(deciding.detail)
        result = "Everything works" if self.asked_service else "All files and values fit together"
        if deciding is not None:
            return f"{result}, but note: {sentence(deciding.detail)}"
        return f"{result}." if self.asked_service else f"{result}. The service was not asked."

    @property
    def next_step(self) -> str:
        """What to do now."""
        if self.deciding is not None and self.deciding.advice:
            return self.deciding.advice
        return "Nothing is to be done." if self.asked_service else "Run it without --offline to ask the service."

    def as_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "good": self.good,
            "verdict": self.verdict,
            "next_step": self.next_step,
            "cause": self.cause,
            "asked_service": self.asked_service,
            "findings": [
                {
                    "id": one.id,
                    "title": one.title,
                    "state": one.state,
                    "detail": one.detail,
                    "advice": one.advice,
                    "cause": one.cause,
                    "error": None if one.kind is None else one.kind.default_code,
                }
                for one in self.findings
            ],
        }


def good(step: str, detail: str) -> Finding:
    return Finding(step, STEPS[step], "good", detail)


def skipped(step: str, why: str) -> Finding:
    return Finding(step, STEPS[step], "skipped", why)


def warning(step: str, cause: str, detail: str, advice: str) -> Finding:
    return Finding(step, STEPS[step], "warning", detail, advice, cause)


def bad(step: str, cause: str, detail: str, advice: str, kind: type[IBKROAuthError]) -> Finding:
    return Finding(step, STEPS[step], "bad", detail, advice, cause, kind)


def failed(step: str, error: IBKROAuthError, cause: str | None = None) -> Finding:
    """A step that ended in an error, with that error's words."""
    return bad(step, cause or error.code.replace("_", "-"), error.message, error.advice, type(error))


def short(fingerprint: str) -> str:
    """Enough of a fingerprint to compare by eye."""
    return f"{fingerprint[:16]}…"


def sentence(text: str) -> str:
    """With a capital and a full stop, so that it can stand alone."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")
