#!/bin/sh
# wheel.sh PYTHON FOLDER: a wheel for machines without compiler, headers, OpenSSL and libcurl, in FOLDER.
# build.sh makes the libraries (ten minutes of a processor's time, once), setup.py links them in, auditwheel finds out from
# which glibc on it runs and names it so, finish.py adds what must be said about its parts. abi3audit has the last word.
set -eu
cd "$(dirname "$0")/../.."
python=$1
folder=$2
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1580601600}"

bundle=$(csrc/bundle/build.sh)
work=build/bundle/wheel
rm -rf "$work" build/lib build/lib.* build/temp.* build/bdist.*
# Not a library of the system: pkg-config looks nowhere else, and a missing one ends the build.
PKG_CONFIG_LIBDIR=$bundle/lib/pkgconfig PKG_CONFIG_PATH='' IBKR_OAUTH_STATIC=1 OPENSSL_DIR=$bundle CURL_DIR=$bundle \
    "$python" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$work/plain" .
PATH=$(cd "$(dirname "$python")" && pwd):$PATH "$python" -m auditwheel repair --wheel-dir "$work/tagged" "$work"/plain/*.whl
wheel=$("$python" csrc/bundle/finish.py wheel "$work"/tagged/*.whl "$bundle" "$folder")
"$python" -m auditwheel show "$wheel"
"$python" -m abi3audit --strict --summary "$wheel"
