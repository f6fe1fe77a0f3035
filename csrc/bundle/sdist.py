#!/usr/bin/env python3
"""sdist.py FOLDER: the source distribution, the same byte by byte whoever makes it. Run from the project's folder."""

import sys
import tempfile
from pathlib import Path

from finish import finish_sdist
from setuptools import build_meta

with tempfile.TemporaryDirectory() as folder:
    packed = build_meta.build_sdist(folder)
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    print(finish_sdist(Path(folder, packed), Path(sys.argv[1])))
