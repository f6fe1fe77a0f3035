#!/bin/sh
# system.sh build|test|fuzz|afl|browser|wheel|analyze|matrix: sees to it that the system has what the package is built with, its C is tested with, and so on.
# Nothing missing: does nothing. As root on Debian or Ubuntu: installs it. Elsewhere: says what to install, and fails.
set -eu
tools=$(dirname "$0")

# What is missing is said on descriptor 3.
program() { command -v "$1" || echo "${2:-$1}" >&3; }
library() { "${PKG_CONFIG:-pkg-config}" --exists "$1" || echo "$1" >&3; }
python_builds() { [ -n "${PYTHON:-}" ] || "$tools/pythons.sh" | grep -q builds; }

debian="build-essential pkg-config libssl-dev libcurl4-openssl-dev"
fedora="gcc make pkgconf-pkg-config openssl-devel libcurl-devel"
homebrew="pkgconf openssl@3 curl"
packages() {
    debian="$debian $1"
    fedora="$fedora $2"
    homebrew="$homebrew $3"
}

# For each purpose the packages, as the three systems call them, and how to see that they are there.
case $1 in
build)
    look() { :; }
    ;;
test)
    packages "binutils libcmocka-dev libjansson-dev valgrind zsh" \
        "binutils libcmocka-devel jansson-devel valgrind zsh" \
        "binutils cmocka jansson zsh"
    look() {
        program readelf binutils
        program zsh
        library cmocka
        library jansson
        program valgrind
    }
    ;;
analyze)
    packages "cppcheck valgrind python3-dev python3-venv python3-dbg" "cppcheck valgrind python3-devel python3-debug" cppcheck
    look() {
        program cppcheck
        program valgrind
        /usr/bin/python3 -c 'import ensurepip, venv' || echo "the system's Python with venv" >&3
        [ -e "$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
            echo "the headers of the system's Python" >&3
        program /usr/bin/python3-dbg "the debug build of the system's Python"
    }
    ;;
matrix)
    packages "debian-archive-keyring dpkg-dev libffi-dev zlib1g-dev" "dpkg-dev libffi-devel zlib-devel" libffi
    look() {
        program dpkg-source
        library zlib
        library libffi
        library libssl
    }
    ;;
wheel)
    packages "dpkg-dev debian-archive-keyring perl iproute2 debootstrap" "dpkg-dev perl iproute debootstrap" dpkg
    look() {
        program dpkg-source
        program perl
        program ip
        program debootstrap
    }
    ;;
fuzz)
    packages "clang libclang-rt-dev" "clang compiler-rt" llvm
    look() {
        echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
            "${CLANG:-clang}" -fsanitize=fuzzer,address -x c - -o /dev/null || echo "clang with libFuzzer" >&3
    }
    ;;
afl)
    packages "afl++ clang libclang-rt-dev" "american-fuzzy-lop american-fuzzy-lop-clang compiler-rt" afl++
    look() {
        program "${AFL_CC:-afl-clang-fast}" AFL++
        program afl-fuzz AFL++
    }
    ;;
browser)
    packages chromium chromium ""
    homebrew="--cask chromium"
    look() { command -v chromium || command -v chromium-browser || program google-chrome Chromium; }
    ;;
*)
    echo "system.sh: no such purpose: $1" >&2
    exit 2
    ;;
esac
# An interpreter that is good enough is left as it is.
python_builds || packages "python3 python3-dev python3-venv" "python3 python3-devel" python@3.13

missing() {
    command -v cc || program gcc "a C compiler"
    program "${PKG_CONFIG:-pkg-config}" pkg-config
    library "libcrypto >= 3.0"
    library "libcurl >= 7.84"
    python_builds || echo "Python >= 3.11 with headers and venv" >&3
    look
}

lacking=$(missing 3>&1 >/dev/null 2>&1)
[ -n "$lacking" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update
    # shellcheck disable=SC2086 -- a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade $debian
    lacking=$(missing 3>&1 >/dev/null 2>&1)
    [ -n "$lacking" ] || exit 0
fi

cat >&2 <<END
Missing on this system:
$(echo "$lacking" | sort -u | sed 's/^/    /')

Install it, then call make again:
    Debian, Ubuntu   sudo apt-get install $debian
    Fedora           sudo dnf install $fedora
    Homebrew         brew install $homebrew
END
exit 1
