#!/usr/bin/env python3
"""sdist.py FOLDER: the source distribution, the same byte by byte whoever makes it. Run from the project's folder."""

import sys
import tempfile
from pathlib import Path

from finish import finish_sdist
from setuptools import build_meta

target = Path(sys.argv[1])  # setuptools puts its own words there
target.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as folder:
    print(finish_sdist(Path(folder, build_meta.build_sdist(folder)), target))
