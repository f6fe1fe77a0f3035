"""What a wheel carries besides our own code, as a CycloneDX document made from what build.sh left in its folder.

Scanners find OpenSSL, curl and zlib by it although they are no files of their own: their versions, where each came
from with the sums of its files, and which of Debian's patches are in it, so that nobody reports a hole that is fixed.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

PINS = Path(__file__).with_name("sources.txt")


class Bundled(NamedTuple):
    """One library, as other people name it."""

    package: str  # of Debian's
    pkg_config: str
    license: str  # SPDX
    cpe: str  # vendor:product
    needs: tuple[str, ...] = ()


LIBRARIES = (
    Bundled("openssl", "libcrypto", "Apache-2.0", "openssl:openssl"),
    Bundled("curl", "libcurl", "curl", "haxx:libcurl", needs=("openssl", "zlib")),
    Bundled("zlib", "zlib", "Zlib", "zlib:zlib"),
)


def pinned(kind: str) -> list[list[str]]:
    """The lines of sources.txt that begin with that word, without it."""
    lines = (line.split() for line in PINS.read_text("utf-8").splitlines())
    return [words[1:] for words in lines if words and words[0] == kind]


def patch(name: str) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "backport", "diff": {"url": f"debian/patches/{name}"}}
    fixes = re.findall(r"CVE-\d{4}-\d+", name)
    if fixes:
        described["resolves"] = [{"type": "security", "id": found} for found in fixes]
    return described


def component(library: Bundled, bundle: Path) -> dict[str, Any]:
    (release,) = pinned("release")[0]
    (debian,) = [version for name, version in pinned("package") if name == library.package]
    pc = (bundle / "lib/pkgconfig" / f"{library.pkg_config}.pc").read_text("utf-8")
    version = re.findall(r"^Version: *(\S+)$", pc, re.MULTILINE)[0]
    files = [(file, total) for total, file in pinned("sha256") if file.startswith(f"{library.package}_")]
    patches = (bundle / "patches" / library.package).read_text("utf-8").split()
    return {
        "type": "library",
        "bom-ref": library.package,
        "name": library.package,
        "version": version,
        "licenses": [{"license": {"id": library.license}}],
        "cpe": f"cpe:2.3:a:{library.cpe}:{version}:*:*:*:*:*:*:*",
        "purl": f"pkg:deb/debian/{library.package}@{debian.replace(':', '%3A')}?arch=source&distro={release}",
        "externalReferences": [
            {"type": "source-distribution", "url": file, "hashes": [{"alg": "SHA-256", "content": total}]}
            for file, total in files
        ],
        "pedigree": {
            "ancestors": [
                {
                    "type": "library",
                    "name": library.package,
                    "version": version,
                    "purl": f"pkg:generic/{library.package}@{version}",
                }
            ],
            "patches": [patch(name) for name in patches],
        },
    }


def document(version: str, bundle: Path) -> dict[str, Any]:
    """The whole of it, for that version of ours and what build.sh made there."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": "ibkr_oauth",
                "name": "ibkr_oauth",
                "version": version,
                "licenses": [{"license": {"id": "MIT"}}],
                "purl": f"pkg:pypi/ibkr-oauth@{version}",
            },
            "properties": [{"name": "compiler", "value": (bundle / "compiler").read_text("utf-8").strip()}],
        },
        "components": [component(library, bundle) for library in LIBRARIES],
        "dependencies": [
            {"ref": "ibkr_oauth", "dependsOn": ["curl", "openssl"]},
            *({"ref": library.package, "dependsOn": list(library.needs)} for library in LIBRARIES),
        ],
    }
