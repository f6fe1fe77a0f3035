"""One step after the other, and what is left out where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ibkr_oauth.clock import Clock
from ibkr_oauth.config import Settings
from ibkr_oauth.errors import ConfigurationError

from . import offline, online
from .report import ONLINE, Finding, Report, failed, skipped

#: Called with each finding as soon as it is there.
OnFinding = Callable[[Finding], object]

# Steps that are about how others see this computer: whether a signed call works does not depend on them.
_BESIDE = ("permissions",)
# Without these nothing can be sent at all.
_ON_THE_WAY = ("base_url", "ca_file", "environment")


def diagnose(
    settings: Settings,
    *,
    offline: bool = False,
    timeout: float = online.TIMEOUT,
    clock: Clock | None = None,
    on_finding: OnFinding | None = None,
) -> Report:
    """Checks every file and value, and then, unless `offline`, asks the service.

    Nothing is changed but this: a new live session token is agreed on and kept where the settings' profile keeps it,
    and a brokerage session is opened and closed again where none is open. Nobody else's is touched. `timeout`: seconds
    for each request. `on_finding` is called with each finding as it comes.

    Raises nothing for what is wrong with settings or service: that is in the report.
    """
    findings: list[Finding] = []
    for finding in _all(settings, clock or Clock(), timeout, is_offline=offline):
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)
    return Report(tuple(findings), asked_service=not offline)


def unreadable(error: ConfigurationError) -> Report:
    """For settings that could not even be read."""
    return Report((failed("settings", error, "settings-unreadable"),), asked_service=False)


def _all(settings: Settings, clock: Clock, timeout: float, *, is_offline: bool) -> Iterator[Finding]:
    parts = offline.Parts(settings)
    broken: Finding | None = None
    blocked: Finding | None = None
    for finding in offline.check(parts):
        yield finding
        if finding.state == "bad" and finding.id not in _BESIDE:
            broken = broken or finding
            if finding.id in _ON_THE_WAY:
                blocked = blocked or finding
    if is_offline:
        return
    if blocked is None:
        yield from _online(parts, clock, timeout, broken)
    else:
        yield from _left_out(ONLINE, blocked)


def _online(parts: offline.Parts, clock: Clock, timeout: float, broken: Finding | None) -> Iterator[Finding]:
    """`broken`: the first thing that is wrong with files and values; then nothing can be signed."""
    told: set[str] = set()
    last = broken
    for finding in online.check(parts, clock, is_sound=broken is None, timeout=timeout):
        yield finding
        told.add(finding.id)
        if finding.state == "bad":
            last = finding
    if last is not None:
        yield from _left_out((step for step in ONLINE if step not in told), last)


def _left_out(steps: Iterable[str], why: Finding) -> Iterator[Finding]:
    for step in steps:
        yield skipped(step, f"not tried: {why.title} comes first")
