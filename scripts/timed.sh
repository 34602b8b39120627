#!/bin/sh
# timed.sh NAME COMMAND...: run the command, then say how long this part of `make test` took.
set -u
part=$1
shift
start=$(date +%s)
"$@"
status=$?
seconds=$(($(date +%s) - start))
if [ "$status" -eq 0 ]; then
    echo "== $part: passed in $seconds s"
else
    echo "== $part: FAILED after $seconds s" >&2
fi
exit "$status"
