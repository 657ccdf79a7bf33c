#!/usr/bin/env bash
# Checks that clang-format would change nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
git ls-files --cached --others --exclude-standard -- '*.c' '*.h' |
    xargs clang-format --dry-run --Werror
echo "the format is kept"
