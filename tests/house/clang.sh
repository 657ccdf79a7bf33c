#!/usr/bin/env bash
# Builds everything with clang, optimised; a warning is an error. (The tests themselves run gcc's
# build.)
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset clang >/dev/null
cmake --build build/clang
