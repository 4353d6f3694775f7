#!/bin/sh
# Licences, duplicate and banned crates, and where crates come from. Needs cargo-deny, which is big to build:
# CI and release machines have it (DENY=install builds it once), others are told that this check was left out.
set -eu
if ! cargo deny --version >/dev/null 2>&1; then
    if [ "${DENY:-}" = install ]; then
        cargo install cargo-deny --locked
    else
        echo "lint: cargo-deny is not installed, licences were not checked (cargo install cargo-deny --locked)" >&2
        exit 0
    fi
fi
cargo deny --all-features check bans licenses sources
