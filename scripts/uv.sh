#!/bin/sh
# Run uv: the one on PATH if it is new enough, else the pinned one of requirements/uv.txt, which is
# installed once, with its hash checked, into the cache outside the repository. `uv.sh where` prints its path.
set -eu

serve() {
    served=$1
    shift
    if [ "${1:-}" = where ]; then
        printf '%s\n' "$served"
        exit 0
    fi
    exec "$served" "$@"
}

minimum_minor=8 # 0.8: the first that has every option used here
root=$(cd "$(dirname "$0")/.." && pwd)

# Trust whom this machine trusts (a company's proxy, say), where it has a list; both names of the setting.
for list in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    if [ -r "$list" ]; then
        export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS-true}" UV_NATIVE_TLS="${UV_NATIVE_TLS-true}"
        break
    fi
done

if found=$(command -v uv 2>/dev/null); then
    version=$("$found" --version 2>/dev/null | awk 'NR == 1 { print $2 }') || version=""
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    case "$major.$minor" in
    *[!0-9.]* | . | *. | .*) ;;
    *)
        if [ "$major" -gt 0 ] || [ "$minor" -ge "$minimum_minor" ]; then
            serve "$found" "$@"
        fi
        ;;
    esac
    echo "uv on PATH is ${version:-of an unknown version}, older than 0.$minimum_minor: taking the pinned one" >&2
fi

pinned=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' "$root/requirements/uv.txt")
cache=${LIGHTWORK_CACHE:-${XDG_CACHE_HOME:-${HOME:-$(cd ~ && pwd)}/.cache}/lightwork}
home=$cache/uv-$pinned
uv=$home/bin/uv

if [ ! -x "$uv" ]; then
    python=$("$root/scripts/python.sh")
    mkdir -p "$cache"
    making=$(mktemp -d "$cache/uv-making.XXXXXX")
    trap 'rm -rf "$making"' EXIT
    trap 'exit 130' INT TERM
    echo "Fetching uv $pinned into $home" >&2

    # A throw-away venv has a pip of its own; where python3-venv is missing, the system's pip may be there.
    if "$python" -m venv "$making/venv" >"$making/log" 2>&1; then
        pip="$making/venv/bin/python -m pip"
    elif "$python" -m pip --version >>"$making/log" 2>&1; then
        pip="$python -m pip"
    else
        sed 's/^/  /' "$making/log" >&2
        echo "$python has neither venv nor pip, so uv cannot be fetched." >&2
        echo "Install python3-venv (or python3-pip), or put uv 0.$minimum_minor or newer on PATH." >&2
        exit 1
    fi
    # shellcheck disable=SC2086  # $pip is a command of several words
    if ! $pip --disable-pip-version-check --no-input install --quiet --no-deps --only-binary :all: \
        --require-hashes --target "$making/uv" -r "$root/requirements/uv.txt" >&2; then
        echo "uv $pinned could not be installed: see pip's message above. Is the package index reachable?" >&2
        exit 1
    fi
    # A second make may have been faster: then its copy stands.
    if [ ! -x "$uv" ]; then
        rm -rf "$home"
        mv "$making/uv" "$home"
    fi
    rm -rf "$making"
    trap - EXIT
fi
serve "$uv" "$@"
