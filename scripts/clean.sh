#!/bin/sh
# Stop and remove the networks and the demo that this checkout started, then what it built.
# With --cache also the user's downloads, which other checkouts share.
set -eu
cd "$(dirname "$0")/.."
started=.lightwork/started

if [ -d "$started" ]; then
    if [ ! -x .venv/bin/lightwork-regtest ]; then
        scripts/setup.sh # without it nothing can be stopped the orderly way
    fi
    for mark in "$started"/*; do
        [ -e "$mark" ] || continue
        name=${mark##*/}
        if [ "$name" = demo ]; then
            .venv/bin/python scripts/demo.py --down
        else
            status=0
            .venv/bin/lightwork-regtest down --delete --name "$name" || status=$?
            [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || exit "$status" # 4: it is gone already
        fi
        rm -f "$mark"
    done
fi

rm -rf .venv .lightwork .cache dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
find agents services contracts scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

if [ "${1:-}" = --cache ]; then
    cache=${LIGHTWORK_CACHE:-${XDG_CACHE_HOME:-${HOME:-$(cd ~ && pwd)}/.cache}/lightwork}
    echo "Removing $cache/nodes and $cache/uv-*" >&2
    # Go makes its module cache read-only.
    for folder in "$cache"/nodes "$cache"/uv-*; do
        [ -e "$folder" ] || continue
        chmod -R u+w "$folder"
        rm -rf "$folder"
    done
fi
