#!/bin/sh
# freethreaded.sh FOLDER [OPTION...]: builds CPython without a GIL from Debian's source package, into FOLDER/bin/python3.
# The options are for its configure script. Debian has no such package; the machine's own list of packages stays as it is.
set -eu
suite=trixie # not unstable: that one's sources come and go
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
shift

mkdir -p "$prefix/apt/lists/partial" "$prefix/apt/cache/archives/partial"
cat >"$prefix/apt/apt.conf" <<END
Dir::Etc::sourcelist "$prefix/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$prefix/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$prefix/apt/cache";
APT::Sandbox::User "root";
END
# The mirror that this machine uses, whatever it is.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep '/debian$' | head -n 1)
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$prefix/apt/sources.list"
cd "$prefix/apt"
APT_CONFIG=$prefix/apt/apt.conf apt-get update
APT_CONFIG=$prefix/apt/apt.conf apt-get source --download-only python3.13

mkdir -p source
tar -xf python3.13_*.orig.tar.xz -C source --strip-components 1
cd source
./configure --prefix="$prefix" --disable-gil --disable-test-modules "$@"
make -j"$(getconf _NPROCESSORS_ONLN)"
make install
rm -rf "$prefix/apt"
