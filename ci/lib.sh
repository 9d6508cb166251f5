# shellcheck shell=sh
# Sourced by the scripts beside it: the root of the clone, and how to get what is missing. Changes into the root.

set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need PACKAGE…: installs those of the Debian packages that are missing.
need() {
    missing=
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || fail "install what Debian calls:$missing"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "run as root, or install sudo, to get:$missing"
    printf 'Installing%s\n' "$missing" >&2
    update
    # The names are meant to be split.
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# The package lists, once a run.
update() {
    [ -z "${updated-}" ] || return 0
    as_root apt-get update -qq >&2
    updated=yes
}

# A file is executable as a command.
have() {
    command -v "$1" >/dev/null
}

# The version of Rust that Cargo.toml asks for, as 1.85.
msrv() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

# at_least VERSION MINIMUM: compares as Debian does.
at_least() {
    [ -n "$1" ] && dpkg --compare-versions "$1" ge "$2"
}

# cargo and rustc, new enough, on the PATH; a C compiler for SQLite and ring.
rust() {
    have cc || need gcc libc6-dev
    for directory in "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/lib/rust-1.*/bin; do
        [ ! -x "$directory/rustc" ] || PATH=$PATH:$directory
    done
    at_least "$(rust_version)" "$(msrv)" || install_rust
    at_least "$(rust_version)" "$(msrv)" || fail "rustc on the PATH is older than $(msrv)"
}

rust_version() {
    ! have cargo || rustc --version 2>/dev/null | cut -d ' ' -f 2
}

# Debian 13: rustc. Debian 12: rustc-web, made for its browsers. Ubuntu: rustc-1.85 or later beside an older rustc.
install_rust() {
    update
    versioned=$(apt-cache search --names-only '^rustc-1\.[0-9]+$' | cut -d ' ' -f 1 | sort -rV | head -n 1)
    for compiler in rustc rustc-web $versioned; do
        candidate=$(apt-cache policy "$compiler" | sed -n 's/^ *Candidate: //p')
        at_least "${candidate#"(none)"}" "$(msrv)" || continue
        suffix=${compiler#rustc}
        need "$compiler" "cargo$suffix"
        [ "$compiler" != "$versioned" ] || PATH=/usr/lib/rust-${suffix#-}/bin:$PATH
        return 0
    done
    fail "install Rust $(msrv) or later: https://rustup.rs"
}

# rustfmt and clippy beside a rustc of Debian's.
rust_tools() {
    if ! cargo fmt --version >/dev/null 2>&1; then need "$(beside rustfmt rustfmt-web)"; fi
    if ! cargo clippy --version >/dev/null 2>&1; then need "$(beside rust-clippy rust-web-clippy)"; fi
}

beside() {
    if dpkg-query -W -f '${Status}' rustc-web 2>/dev/null | grep -q ' installed$'; then echo "$2"; else echo "$1"; fi
}

# The Python environment in .venv, with moto and boto3 as ci/requirements.txt pins them.
venv() {
    environment .venv ci/requirements.txt
}

# The Python environment in .venv-broker, with amqtt as ci/broker.txt pins it.
broker() {
    environment .venv-broker ci/broker.txt
}

# environment DIRECTORY REQUIREMENTS: makes it, unless it is there.
environment() {
    cmp -s "$2" "$1/requirements.txt" && return 0
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3 python3-venv
    printf 'Making the Python environment %s\n' "$1" >&2
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" >&2
    cp "$2" "$1/requirements.txt"
}

# Where cargo puts what it builds.
target() {
    echo "${CARGO_TARGET_DIR:-$root/target}"
}
