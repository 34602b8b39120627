#!/bin/sh
# Have docker-compose.yml read by whatever will run it: `docker compose`, else `docker-compose`, else the
# Python version of the latter, pinned in docker/check.txt and kept in the cache. No Docker engine is needed.
set -eu
cd "$(dirname "$0")/.."

check() {
    "$@" --file docker-compose.yml config --quiet
    echo "docker-compose.yml is well for: $*"
}

if docker compose version >/dev/null 2>&1; then
    check docker compose
elif docker-compose version >/dev/null 2>&1; then
    check docker-compose
else
    cache=${LIGHTWORK_CACHE:-${XDG_CACHE_HOME:-${HOME:-$(cd ~ && pwd)}/.cache}/lightwork}
    own=$cache/compose-$(cksum <docker/check.txt | tr ' ' -)
    if [ ! -d "$own" ]; then
        mkdir -p "$cache"
        making=$(mktemp -d "$cache/compose-making.XXXXXX")
        trap 'rm -rf "$making"' EXIT
        echo "Fetching docker-compose into $own" >&2
        scripts/uv.sh venv --quiet --python .venv/bin/python "$making/venv"
        scripts/uv.sh pip install --quiet --python "$making/venv/bin/python" --no-deps --require-hashes \
            --build-constraints docker/check.txt --requirement docker/check.txt
        # No script of it is called, so the folder may be moved; another run may have been first.
        mv "$making/venv" "$own" 2>/dev/null || [ -d "$own" ]
    fi
    "$own/bin/python" -W ignore docker/read_compose.py
    echo "docker-compose.yml is well for docker-compose $(sed -n 's/^docker-compose==\([0-9.]*\).*/\1/p' docker/check.txt)"
fi
