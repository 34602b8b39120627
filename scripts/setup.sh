#!/bin/sh
# Make .venv hold exactly what requirements/dev.lock pins, and this checkout as an editable install.
set -eu
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never
unset VIRTUAL_ENV # an activated environment of another project is not meant

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(scripts/python.sh)
    echo "Making .venv with $python" >&2
    scripts/uv.sh venv --quiet --clear --python "$python" .venv
fi

# The build backend of the editable install comes from the lock, too: same versions, same hashes.
# --strict fails here, not later, if the lock lacks something.
# Compiled here once, since an environment may forbid Python to do so later: each start of a program would pay for it.
echo "Syncing .venv with requirements/dev.lock" >&2
printf -- '--editable .\n' | scripts/uv.sh pip sync --quiet --strict --compile-bytecode --python .venv/bin/python \
    --build-constraints requirements/dev.lock requirements/dev.lock -

# For the ladder of lightwork_regtest, whose last rung installs a Go toolchain with pip or uv; make puts
# .venv/bin behind PATH for it.
ln -sf "$(scripts/uv.sh where)" .venv/bin/uv
