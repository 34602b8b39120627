#!/bin/sh
# Print the Python to build .venv with: $PYTHON if set, else the first on PATH that is 3.11 or newer.
set -eu

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates="python3 python3.14 python3.13 python3.12 python3.11 python"
fi

seen=""
for candidate in $candidates; do
    found=$(command -v "$candidate" 2>/dev/null) || continue
    if new_enough "$found"; then
        exec "$found" -c 'import sys; print(sys.executable)'
    fi
    version=$("$found" --version 2>/dev/null) || version="does not run"
    seen="$seen
  $found: $version"
done

echo "Lightwork needs Python 3.11 or newer; none of: $candidates$seen" >&2
echo "Install one, or name it: make PYTHON=/path/to/python3.11" >&2
exit 1
