#!/usr/bin/env bash
# Installs the Debian 12 packages that building and testing goad needs. Only what is missing; only that needs root.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config curl ca-certificates debian-archive-keyring
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev libre2-dev libc-ares-dev
  libssl-dev zlib1g-dev prometheus-cpp-dev libyaml-cpp-dev libcurl4-openssl-dev nlohmann-json3-dev libspdlog-dev libsimdjson-dev libcpp-httplib-dev libsystemd-dev help2man dpkg-dev file
  libgtest-dev libgmock-dev
)
[ "${1:-}" = package ] && packages+=(debootstrap lintian)
[ "${1:-}" = machine ] && packages+=(debootstrap qemu-system-x86 e2fsprogs)
[ "${1:-}" = container ] && packages+=(debootstrap buildah)
# For tests/check.sh: clients in another language, promtool, nginx before and behind goad, clang-tidy, clang-format.
[ "${1:-}" = fuzz ] && packages+=(clang-14 libclang-rt-14-dev)
[ "${1:-}" = tests ] && packages+=(python3-grpcio python3-grpc-tools prometheus nginx-light clang-tidy-14 clang-format-14)
# The official OpenAI client runs on node; a newer one than Debian's, as others package it, brings its own npm.
if [ "${1:-}" = tests ] && ! { command -v node && command -v npm; } > /dev/null; then packages+=(nodejs npm); fi

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "installing: ${missing[*]}" >&2
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || {
    echo "install-packages.sh: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  }
  sudo=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A package may come with a service of its own (prometheus and nginx do); policy-rc.d keeps it from being started.
keep_stopped=/usr/sbin/policy-rc.d
if [ ! -e "$keep_stopped" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$keep_stopped" > /dev/null
  "${sudo[@]}" chmod +x "$keep_stopped"
  trap 'rm -f "$log"; "${sudo[@]}" rm -f "$keep_stopped"' EXIT
fi
if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "install-packages.sh: apt-get failed (above); goad is built on Debian 12 packages" >&2
  exit 1
fi
