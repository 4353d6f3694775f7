#!/bin/sh
# Builds the Debian package of this machine's architecture into target/debian/ and prints its path.
# Installs cargo-deb into target/tools/ if it is not there; nothing else on this machine changes.
set -eu

VERSION=3.8.0
tools=target/tools

if [ "$("$tools/bin/cargo-deb" --version 2>/dev/null || true)" != "cargo-deb $VERSION" ]; then
    echo "deb: building cargo-deb $VERSION into $tools" >&2
    cargo install --quiet --locked --root "$tools" --version "$VERSION" cargo-deb
fi
command -v dpkg-shlibdeps >/dev/null 2>&1 || {
    echo "deb: dpkg-shlibdeps is needed to find out which libraries the program uses: apt-get install dpkg-dev" >&2
    exit 1
}

cargo build --release --locked --package watchpost --bin watchpost
mkdir -p target/completions
watchpost=target/release/watchpost
"$watchpost" completions bash >target/completions/watchpost
"$watchpost" completions zsh >target/completions/_watchpost
"$watchpost" completions fish >target/completions/watchpost.fish

"$tools/bin/cargo-deb" deb --no-build --strip --locked --package watchpost
