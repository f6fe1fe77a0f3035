#!/bin/sh
# system.sh build|test|fuzz|afl|browser|wheel|analyze|matrix: sees to it that the system has what the package is built with, its C is tested with, and so on.
# Nothing missing: does nothing. As root on Debian or Ubuntu: installs it. Elsewhere: says what to install, and fails.
set -eu
tools=$(dirname "$0")

missing() {
    command -v cc || command -v gcc || echo "a C compiler" >&3
    command -v "${PKG_CONFIG:-pkg-config}" || echo "pkg-config" >&3
    found() { "${PKG_CONFIG:-pkg-config}" --exists "$1" || echo "$1" >&3; }
    found "libcrypto >= 3.0"
    found "libcurl >= 7.84"
    [ -n "${PYTHON:-}" ] || "$tools/pythons.sh" | grep builds || echo "Python >= 3.11 with headers and venv" >&3
    if [ "$1" = test ]; then
        command -v readelf || echo "binutils" >&3
        command -v zsh || echo "zsh" >&3
        found cmocka
        found jansson
        command -v valgrind || echo "valgrind" >&3
    fi
    if [ "$1" = analyze ]; then
        command -v cppcheck || echo "cppcheck" >&3
        command -v valgrind || echo "valgrind" >&3
        /usr/bin/python3 -c 'import ensurepip, venv' || echo "the system's Python with venv" >&3
        [ -e "$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
            echo "the headers of the system's Python" >&3
        command -v /usr/bin/python3-dbg || echo "the debug build of the system's Python" >&3
    fi
    if [ "$1" = matrix ]; then
        command -v dpkg-source || echo "dpkg-dev" >&3
        for library in zlib libffi libssl; do
            found "$library"
        done
    fi
    if [ "$1" = wheel ]; then
        command -v dpkg-source || echo "dpkg-source" >&3
        command -v perl || echo "perl" >&3
        command -v ip || echo "ip" >&3
        command -v debootstrap || echo "debootstrap" >&3
    fi
    if [ "$1" = fuzz ]; then
        echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
            "${CLANG:-clang}" -fsanitize=fuzzer,address -x c - -o /dev/null || echo "clang with libFuzzer" >&3
    fi
    if [ "$1" = browser ]; then
        command -v chromium || command -v chromium-browser || command -v google-chrome || echo "Chromium" >&3
    fi
    if [ "$1" = afl ]; then
        command -v "${AFL_CC:-afl-clang-fast}" && command -v afl-fuzz || echo "AFL++" >&3
    fi
}

debian="build-essential pkg-config libssl-dev libcurl4-openssl-dev"
fedora="gcc make pkgconf-pkg-config openssl-devel libcurl-devel"
homebrew="pkgconf openssl@3 curl"
if [ "$1" = test ]; then
    debian="$debian binutils libcmocka-dev libjansson-dev valgrind zsh"
    fedora="$fedora binutils libcmocka-devel jansson-devel valgrind zsh"
    homebrew="$homebrew binutils cmocka jansson zsh"
fi
if [ "$1" = analyze ]; then
    debian="$debian cppcheck valgrind python3-dev python3-venv python3-dbg"
    fedora="$fedora cppcheck valgrind python3-devel python3-debug"
    homebrew="$homebrew cppcheck"
fi
if [ "$1" = matrix ]; then
    debian="$debian debian-archive-keyring dpkg-dev libffi-dev zlib1g-dev"
    fedora="$fedora dpkg-dev libffi-devel zlib-devel"
    homebrew="$homebrew libffi"
fi
if [ "$1" = fuzz ]; then
    debian="$debian clang libclang-rt-dev"
    fedora="$fedora clang compiler-rt"
    homebrew="$homebrew llvm"
fi
if [ "$1" = browser ]; then
    debian="$debian chromium"
    fedora="$fedora chromium"
    homebrew="--cask chromium"
fi
if [ "$1" = afl ]; then
    debian="$debian afl++ clang libclang-rt-dev"
    fedora="$fedora american-fuzzy-lop american-fuzzy-lop-clang compiler-rt"
    homebrew="$homebrew afl++"
fi
if [ "$1" = wheel ]; then
    debian="$debian dpkg-dev debian-archive-keyring perl iproute2 debootstrap"
    fedora="$fedora dpkg-dev perl iproute debootstrap"
    homebrew="$homebrew dpkg"
fi
# An interpreter that is good enough is left as it is.
if [ -z "${PYTHON:-}" ] && ! "$tools/pythons.sh" | grep -q builds; then
    debian="$debian python3 python3-dev python3-venv"
    fedora="$fedora python3 python3-devel"
    homebrew="$homebrew python@3.13"
fi

lacking=$(missing "$1" 3>&1 >/dev/null 2>&1)
[ -n "$lacking" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update
    # shellcheck disable=SC2086 -- a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade $debian
    lacking=$(missing "$1" 3>&1 >/dev/null 2>&1)
    [ -n "$lacking" ] || exit 0
fi

cat >&2 <<END
Missing on this system:
$(echo "$lacking" | sed 's/^/    /')

Install it, then call make again:
    Debian, Ubuntu   sudo apt-get install $debian
    Fedora           sudo dnf install $fedora
    Homebrew         brew install $homebrew
END
exit 1
