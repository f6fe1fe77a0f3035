"""A file that can be shown to others: what was found, and nothing that is secret."""

from __future__ import annotations

import json
import os
import platform
import sys
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from ibkr_oauth import _core, files
from ibkr_oauth._version import VERSION
from ibkr_oauth.config import Settings, key_password
from ibkr_oauth.errors import ConfigurationError
from ibkr_oauth.redact import mask

from .files import identify
from .report import Report

_KEYS = ("signing_key", "encryption_key", "dh_params")


def write_bundle(path: str | os.PathLike[str], report: Report, settings: Settings | None = None) -> str:
    """Writes a zip file: the report, versions, masked settings with their origins, fingerprints of the public halves.

    It is safe to post: identifiers are masked, paths begin at the home folder, and there is no secret in it. Returns
    the path. Raises ConfigurationError where it cannot be written.
    """
    target = str(Path(path).expanduser().absolute())
    documents: dict[str, Any] = {"report.json": report.as_document(), "versions.json": _versions()}
    if settings is not None:
        documents["settings.json"] = _settings(settings)
        documents["keys.json"] = _fingerprints(settings)
    hidden = _identifiers(settings)
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.txt", _clean(_as_text(report), hidden))
        for name, document in documents.items():
            archive.writestr(name, _clean(json.dumps(document, indent=2, ensure_ascii=False), hidden))
    try:
        files.write_private(target, made.getvalue())
    except OSError as error:
        reason = error.strerror
    else:
        return target
    raise ConfigurationError(f"{target} could not be written: {reason}", advice="Give a path in a folder of your own.")


def _as_text(report: Report) -> str:
    lines = [
        f"{one.state:8} {one.title}: {one.detail}" + (f"\n         {one.advice}" if one.advice else "")
        for one in report.findings
    ]
    return "\n".join([report.verdict, report.next_step, "", *lines, ""])


def _versions() -> dict[str, str]:
    return {
        "ibkr_oauth": VERSION,
        **_core.versions(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "executable": "frozen" if getattr(sys, "frozen", False) else "python",
    }


def _settings(settings: Settings) -> list[dict[str, str | None]]:
    return [{"name": one.name, "value": one.value, "origin": one.origin} for one in settings.masked()]


def _fingerprints(settings: Settings) -> dict[str, dict[str, str | int | None]]:
    password = key_password(settings._environment)
    found: dict[str, dict[str, str | int | None]] = {}
    for name in _KEYS:
        value = settings.get(name)
        if value is not None:
            file = identify(value.text, passphrase=password)
            found[name] = {"kind": file.kind, "bits": file.bits, "fingerprint": file.fingerprint, "cause": file.cause}
    return found


def _identifiers(settings: Settings | None) -> Mapping[str, str]:
    """What is no secret and yet nobody's business, and what stands in its place."""
    hidden: dict[str, str] = {}
    if settings is not None:
        for name in ("consumer_key", "access_token"):
            value = settings.get(name)
            if value is not None and len(value.text.strip()) > 4 and value.text.strip() != "TESTCONS":
                hidden[value.text.strip()] = mask(value.text.strip())
    homes = {str(Path("~").expanduser())}
    if settings is not None:
        homes.add(settings._environment.get("HOME", ""))
    hidden.update((home, "~") for home in homes if len(home) > 1)
    return hidden


def _clean(text: str, hidden: Mapping[str, str]) -> str:
    for what, shown in hidden.items():
        text = text.replace(what, shown)
    return text
