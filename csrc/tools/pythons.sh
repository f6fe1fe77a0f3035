#!/bin/sh
# pythons.sh: every CPython >= 3.11 on this machine, lowest first, one a line: version, path, and "builds" where it can make
# virtual environments and compile extension modules, otherwise "runs". Free-threaded ones are left out: no abi3 wheel fits them.
for name in python3.11 python3.12 python3.13 python3.14 python3.15 python3; do
    IFS=:
    for folder in $PATH /usr/bin /usr/local/bin; do
        echo "$folder/$name"
    done
    unset IFS
    echo "$HOME"/.pyenv/versions/*/bin/$name | tr ' ' '\n'
done | sort -u | while read -r python; do
    [ -x "$python" ] && "$python" -c '
import importlib.util, os, sys, sysconfig
if sys.version_info >= (3, 11) and sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
    builds = headers and all(map(importlib.util.find_spec, ("venv", "ensurepip")))
    path = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    print("%d.%d.%d" % sys.version_info[:3], path, "builds" if builds else "runs")
' 2>/dev/null </dev/null
done | sort -u | sort -V
