#!/bin/sh
# Fuzzes every target for FUZZ_SECONDS (60) with libFuzzer, on stable Rust and without a sanitizer: panics, hangs beyond ten
# seconds and more than 1 GiB end it with an error and leave the input in fuzz/artifacts. What it finds interesting stays in
# target-fuzz/corpus and is not committed.
set -eu
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target-fuzz}"
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz"
    cargo install cargo-fuzz --locked
fi
for target in ${FUZZ_TARGETS:-config manifest model decode records stream}; do
    found="$CARGO_TARGET_DIR/corpus/$target"
    mkdir -p "$found"
    more=""
    case $target in
        config) more="tests/fixtures/config" ;;
        manifest) more="engines/models" ;;
    esac
    echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
    # shellcheck disable=SC2086 # an empty $more is no folder
    cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" $more -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
