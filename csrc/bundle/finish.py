#!/usr/bin/env python3
"""The last step of a release: files that are the same byte by byte whoever makes them, a wheel that says what is in it.

    finish.py wheel WHEEL BUNDLE FOLDER   adds licences and the list of parts; BUNDLE is the folder of build.sh
    finish.py sdist SDIST FOLDER

Times are SOURCE_DATE_EPOCH, owners nobody in particular, and the order is that of the names.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import sbom

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1580601600"))


def add_licenses(files: dict[str, bytes], info: str, bundle: Path) -> None:
    """The texts, and in METADATA that they are there and what all of it together is licensed under (PEP 639)."""
    metadata, _, body = files[f"{info}/METADATA"].decode().partition("\n\n")
    lines = metadata.split("\n")
    for library in sbom.LIBRARIES:
        name = f"bundled/{library.package}.txt"
        files[f"{info}/licenses/{name}"] = (bundle / "licenses" / f"{library.package}.txt").read_bytes()
        lines.append(f"License-File: {name}")
    (place,) = [number for number, line in enumerate(lines) if line.startswith("License-Expression: ")]
    lines[place] = " AND ".join([lines[place], *(library.license for library in sbom.LIBRARIES)])
    files[f"{info}/METADATA"] = "\n".join([*lines, "", body]).encode()


def record(files: dict[str, bytes], info: str) -> bytes:
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{info}/RECORD,,\n"]).encode()


def finish_wheel(wheel: Path, bundle: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        files = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    (info,) = {name.partition("/")[0] for name in files if name.partition("/")[0].endswith(".dist-info")}
    del files[f"{info}/RECORD"]

    add_licenses(files, info, bundle)
    bill = sbom.document(info.split("-")[1].removesuffix(".dist"), bundle)
    files[f"{info}/sboms/bundled.cdx.json"] = (json.dumps(bill, indent=1) + "\n").encode()  # PEP 770
    files[f"{info}/RECORD"] = record(files, info)

    finished = folder / wheel.name
    with zipfile.ZipFile(finished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # What describes the archive comes last, so that pip and others can read it from the end.
        for name in sorted(files, key=lambda name: (name.startswith(info), name)):
            entry = zipfile.ZipInfo(name, time.gmtime(EPOCH)[:6])
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return finished


def finish_sdist(sdist: Path, folder: Path) -> Path:
    packed = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        files = sorted(name.partition("/")[2] for name in old.getnames() if old.getmember(name).isfile())
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = EPOCH, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            content = old.extractfile(member) if member.isfile() else None
            if member.name.endswith(".egg-info/SOURCES.txt"):
                # What is in here now: setuptools packs a setup.cfg that it lists the next time only.
                content = io.BytesIO("".join(f"{name}\n" for name in files).encode())
                member.size = len(content.getbuffer())
            new.addfile(member, content)
    finished = folder / sdist.name
    with finished.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=EPOCH) as compressed:
        compressed.write(packed.getvalue())
    return finished


def main(what: str, *paths: str) -> None:
    finish = {"wheel": finish_wheel, "sdist": finish_sdist}[what]
    Path(paths[-1]).mkdir(parents=True, exist_ok=True)
    print(finish(*map(Path, paths)))


if __name__ == "__main__":
    main(*sys.argv[1:])
