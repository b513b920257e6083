#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build.sh BUILD_DIR: builds the clients of tests/stack into BUILD_DIR, whose venv already has Python's libraries, node,
# npm and go. What has not changed since the last time is left as it is.
set -euo pipefail
sources=$(cd "$(dirname "$0")" && pwd)
toolchains=$sources/../requirements.txt
build=$(cd "${1:?usage: build.sh BUILD_DIR}" && pwd)
PATH="$build/venv/bin:$PATH:$HOME/.cargo/bin"
CARGO_MINIMUM=1.93
CARGO_SECONDS=900

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

# is_new FOLDER FILE...: says whether FOLDER was made from other FILEs than these are now
is_new() {
  local folder=$1
  shift
  stamp=$(cat "$@" | sha256sum)
  [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ]
}
made() { printf '%s\n' "$stamp" >"$1/stamp"; }

build_node() {
  local folder=$build/node
  mkdir -p "$folder"
  cp "$sources"/node/*.mjs "$folder"
  is_new "$folder" "$sources"/node/package*.json "$toolchains" || return 0
  say "installing the npm clients"
  cp "$sources"/node/package*.json "$folder"
  # No scripts: the only one downloads a crypto library that no test needs.
  (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null)
  made "$folder"
}

build_go() {
  local folder=$build/go
  mkdir -p "$folder"
  is_new "$folder" "$sources"/go/* "$toolchains" || return 0
  say "building the Go client"
  cp "$sources"/go/* "$folder"
  (cd "$folder" && GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -o client .)
  made "$folder"
}

# leave_out FOLDER WHY: the tests of that client are reported as skipped
leave_out() {
  say "leaving out the client in $1: $2"
  rm -f "$1/client" "$1/stamp"
  printf '%s\n' "$2" >"$1/left_out"
}

build_rust() {
  local folder=$build/rust version
  mkdir -p "$folder/src"
  version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || version=
  if [ "$(printf '%s\n' "$CARGO_MINIMUM" "${version:-0}" | sort -V | head -n1)" != "$CARGO_MINIMUM" ]; then
    leave_out "$folder" "needs cargo $CARGO_MINIMUM, here is ${version:-none}"
    return 0
  fi
  rm -f "$folder/left_out"
  is_new "$folder" "$sources/rust/Cargo.toml" "$sources/rust/src/main.rs" || return 0
  say "building the Rust client (some minutes, the first time on this machine)"
  cp "$sources/rust/Cargo.toml" "$folder"
  cp "$sources/rust/src/main.rs" "$folder/src"
  # Outside of BUILD_DIR, as ccache does: a fresh clone need not build the library again.
  local target=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/rust-client
  # What the library itself needs is not pinned, and it is large: neither may stand in the way of the other clients.
  if ! CARGO_TARGET_DIR=$target timeout "$CARGO_SECONDS" cargo build --quiet --manifest-path "$folder/Cargo.toml"; then
    leave_out "$folder" "cargo could not build it within $((CARGO_SECONDS / 60)) minutes"
    return 0
  fi
  cp "$target/debug/rust_client" "$folder/client"
  made "$folder"
}

build_node
build_go
build_rust
