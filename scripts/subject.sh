#!/bin/sh
# Refuse a commit whose subject is not `type(scope): what`, or is too long to read in a list.
set -eu
subject=$(sed -n '/^#/d; /./{p;q;}' "$1")
case $subject in
Merge\ * | Revert\ * | fixup!\ * | squash!\ *) exit 0 ;;
esac
if ! printf '%s\n' "$subject" |
    grep -Eq '^(feat|fix|test|docs|build|ci|perf|refactor|style|chore)(\([a-z0-9-]+\))?!?: .+$'; then
    echo "The subject should read like \`fix(escrow): a payout is given up only after ...\`, not: $subject" >&2
    exit 1
fi
if [ "${#subject}" -gt 120 ]; then
    echo "The subject has ${#subject} characters; 120 is the limit." >&2
    exit 1
fi
