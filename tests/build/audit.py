"""Asks for known holes in every Python package that is installed here: `make audit`.

pip-audit counts a package that its source does not know as "skipped", and ends well even where that is all of them, as it is
behind many a mirror. Here that is a failure: what was not asked about is not known to be whole.

    audit.py [OPTION ...]    options are pip-audit's, for instance -s osv
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_PATIENCE = 600.0
_ADVICE = """\
Advisories are on the Internet, and this machine does not get to them. What can be done:
  - run `make audit` where it is connected to the package index itself, not to a mirror of its files;
  - ask another source: make audit AUDIT='-s osv' (or -s esms);
  - without any connection: compare `pip freeze` with the advisories of your own database by hand."""


def judge(output: str) -> tuple[list[str], bool]:
    """Lines for people, from pip-audit's JSON, and whether all is well."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return ["pip-audit gave no result.", _ADVICE], False
    asked = [package for package in packages if "skip_reason" not in package]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for package in asked
        for hole in package["vulns"]
    ]
    lines = [f"{len(asked)} packages asked about, {len(holes)} known holes", *holes]
    if skipped or not asked:
        shown = ", ".join(skipped[:8]) + (", ..." if len(skipped) > 8 else "")
        lines += [f"{len(skipped)} packages that the source does not know: {shown}", _ADVICE]
    return lines, bool(asked) and not holes and not skipped


def main() -> None:
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--timeout", "10"]
    command += ["--progress-spinner", "off", "--format", "json", *sys.argv[1:]]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        output, said = done.stdout, done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired:
        output, said = "", [f"no answer within {_PATIENCE:.0f} s"]
    lines, good = judge(output)
    print("\n".join(lines if good else [*said, *lines]))
    sys.exit(not good)


if __name__ == "__main__":
    main()
