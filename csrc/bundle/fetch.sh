#!/bin/sh
# fetch.sh        Debian's source packages that sources.txt names into build/bundle/sources, each file as its SHA-256 says
# fetch.sh pins   writes into sources.txt the newest versions of its release that can be had, with their files' sums
#
# apt-get does the work, with lists and settings of its own below build, so that the machine's own stay as they are; the
# mirrors are the machine's. apt checks Debian's signature of what it fetches; the sums see to it that every build has the same.
# Where all files are there with the right sums, nothing is fetched, and no apt is needed.
set -eu
cd "$(dirname "$0")/../.."
pins=$PWD/csrc/bundle/sources.txt
apt=$PWD/build/bundle/apt
sources=$PWD/build/bundle/sources

pinned() { sed -n "s/^$1  *//p" "$pins"; }
complete() { [ -d "$sources" ] && (cd "$sources" && pinned sha256 | sed 's/ /  /' | sha256sum --check --quiet --strict) >&2; }

mirrors() { # of Debian, as the machine has them: one URL a line, that of security updates last, since the main one keeps more
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p' | sort -ru
}

private() { # COMMAND ARGUMENT...: of apt, with our own lists and settings
    command=$1
    shift
    "$command" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" \
        -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}

prepare() {
    command -v apt-get >/dev/null || { echo "fetch.sh: needs Debian's apt-get, or the files of sources.txt in $sources" >&2; exit 1; }
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$sources"
    [ -n "$(mirrors)" ] || apt-get update >&2
    release=$(pinned release)
    for mirror in $(mirrors); do
        case $mirror in
            *-security*) echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release-security main" ;;
            *) echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" ;;
        esac
    done >"$apt/sources.list"
    private apt-get update >&2
}

get() { # PACKAGE VERSION: all its files, or none
    rm -rf "$sources/part" && mkdir "$sources/part"
    (cd "$sources/part" && private apt-get source --download-only "$1=$2" >&2) && mv "$sources"/part/* "$sources"
}

newest() { # PACKAGE: fetches it, and prints its version. A mirror may list a version whose files it does not have yet.
    for version in $(private apt-cache madison "$1" | awk '{ print $3 }' | sort -Vru); do
        get "$1" "$version" && echo "$version" && return
    done
    echo "fetch.sh: no version of $1 can be had" >&2
    exit 1
}

if [ "${1:-}" = pins ]; then
    prepare
    rm -rf "${sources:?}"/*
    packages=$(pinned package | while read -r name _; do version=$(newest "$name") && echo "package $name $version"; done)
    rm -rf "$sources/part"
    { sed -n '/^#/p' "$pins"; echo "release $(pinned release)"; echo "$packages"; } >"$pins.new"
    (cd "$sources" && sha256sum -- *) | sed 's/^\([0-9a-f]*\)  */sha256 \1 /' >>"$pins.new"
    mv "$pins.new" "$pins"
elif ! complete 2>/dev/null; then
    prepare
    pinned package | while read -r name version; do
        get "$name" "$version" || {
            echo "fetch.sh: $name $version is not there any more: a newer one takes its place (make bundle-pins)" >&2
            exit 1
        }
    done
    rm -rf "$sources/part"
    complete
fi
