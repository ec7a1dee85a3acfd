#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs those of the named Debian/Ubuntu packages that are missing; says which. With
# every package present it asks nothing of the network.
set -euo pipefail

missing=()
for package in "$@"; do
    case "$package" in
    gcc | make) command -v "$package" >/dev/null && continue ;; # any compiler will do
    esac
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] ||
        missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "make deps: no apt-get here; install the equivalents of: ${missing[*]}" >&2
    exit 1
fi
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
echo "make deps: installing ${missing[*]}"
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
