#!/bin/sh
# flags.sh GROUP COMPILER...: prints those flags of a group of flags.txt that the compiler accepts, on one line.
# Called from the top folder of the project, because the version script is named from there.
set -eu
group=$1
shift
command -v "$1" >/dev/null || { echo "flags.sh: no compiler named $1" >&2; exit 1; }
flags=$(sed -n "s/^$group  *//p" csrc/flags.txt)

# -Werror, since clang only warns about a warning that it does not know. The module's one symbol is there because some
# linkers refuse a version script that names an unknown one.
accepts() {
    case $group in
        link | static) echo 'int PyInit__core(void) { return 0; }' | "$@" -shared -fPIC -x c -o "$scratch/probe" - ;;
        *) echo 'int PyInit__core(void); int PyInit__core(void) { return 0; }' | "$@" -Werror -c -x c -o "$scratch/probe" - ;;
    esac >/dev/null 2>&1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Mostly the compiler knows them all: one run instead of thirty.
if ! accepts "$@" $flags; then
    known=
    for flag in $flags; do
        if accepts "$@" "$flag"; then
            known="$known $flag"
        fi
    done
    flags=$known
fi
echo $flags
