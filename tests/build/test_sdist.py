"""The source distribution can be built, tested and read by itself."""

import sys
import tarfile


def test_it_carries_the_sources_and_their_tests(run, project, tmp_path):
    build = "from setuptools import build_meta; build_meta.build_sdist(__import__('sys').argv[1])"
    run(sys.executable, "-c", build, tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    wanted = ["Makefile", "csrc/Makefile", "csrc/flags.txt", "csrc/tools/ibk.map", ".ci/run"]
    wanted += ["tests/vectors/vectors.json", "LICENSE", "README.md", "pyproject.toml", "setup.py"]
    for pattern in ("csrc/**/*.[ch]", "tests/c/*.[ch]", "tests/**/*.py"):
        wanted += [file.relative_to(project).as_posix() for file in project.glob(pattern)]
    assert not {*wanted} - names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
