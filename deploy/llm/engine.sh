#!/usr/bin/env bash
# A real llama-server for Debian 12 (amd64, arm64), unpacked from Debian's own packages into a private folder. No root, and the
# machine's apt sources and packages stay as they are.
#
#   engine.sh setup                               fetch and unpack, once (about 20 MB to fetch, 75 MB on disk)
#   engine.sh exec MODEL.gguf PORT SLOTS [ARG...] become the server, in the foreground; ARGs go to llama-server
#
# GOAD_ENGINE_DIR (default: ~/.cache/goad/llama-engine) is the folder; GOAD_DEBIAN_MIRROR overrides the Debian mirror of
# this machine's apt configuration; GOAD_ENGINE_SUITE (sid) is the suite that has llama.cpp-tools.
set -euo pipefail

dir=${GOAD_ENGINE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/goad/llama-engine}
suite=${GOAD_ENGINE_SUITE:-sid}
root=$dir/root
arch=$(dpkg --print-architecture)
case $arch in
  amd64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
  arm64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
esac
lib=$root/usr/lib/${triplet:-}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "engine.sh: $*" >&2; exit 1; }

# The first Debian mirror that this machine's apt already uses.
mirror() {
  if [ -n "${GOAD_DEBIAN_MIRROR:-}" ]; then echo "$GOAD_DEBIAN_MIRROR"; return; fi
  local found
  found=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '$1 == "URIs:" && $2 ~ /\/debian\/?$/ { print $2; exit }')
  [ -n "$found" ] || found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n 's/^deb \(\[[^]]*\] \)\?\([a-z]*:[^ ]*\/debian\/\?\) .*/\2/p' | head -n 1)
  [ -n "$found" ] || fail "no Debian mirror in this machine's apt configuration; set GOAD_DEBIAN_MIRROR"
  echo "$found"
}

run_server() {  # llama-server under its own dynamic loader and libraries
  exec "$lib/$loader" --library-path "$lib:$lib/llama" "$root/usr/bin/llama-server" "$@"
}

setup() {
  [ -f "$dir/ready-$suite" ] && return 0
  [ -n "${triplet:-}" ] || fail "llama-server packages are set up for amd64 and arm64, not for $arch; use --backend URL"
  [ -f "$keyring" ] || fail "$keyring is missing (package debian-archive-keyring)"
  mkdir -p "$dir"
  exec 9> "$dir/lock"
  flock 9
  [ -f "$dir/ready-$suite" ] && return 0
  local apt=$dir/apt
  rm -rf "$apt" "$root" "$root.new"
  mkdir -p "$apt"/{etc/preferences.d,state/lists/partial,cache/archives/partial} "$root.new"
  : > "$apt/state/status"
  echo "deb [signed-by=$keyring] $(mirror) $suite main" > "$apt/etc/sources.list"
  {
    apt-config dump | grep -E '^Acquire::(http|https|Retries|ForceIPv4)' || true  # the machine's proxies
    cat <<CONF
Dir::Etc "$apt/etc"; Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$apt/etc/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::State "$apt/state"; Dir::State::status "$apt/state/status"; Dir::Cache "$apt/cache";
APT::Architecture "$arch"; APT::Architectures { "$arch"; }; APT::Install-Recommends "false";
Acquire::Languages "none"; APT::Sandbox::User "";
CONF
  } > "$apt/apt.conf"
  export APT_CONFIG=$apt/apt.conf
  if ! apt-get -o APT::Update::Error-Mode=any update > "$apt/log" 2>&1; then
    # A mirror frozen in time has a Release file past its date; its signature is checked all the same.
    grep -qi 'expired' "$apt/log" || { cat "$apt/log" >&2; fail "apt-get update failed"; }
    apt-get -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until=false update > "$apt/log" 2>&1 ||
      { cat "$apt/log" >&2; fail "apt-get update failed"; }
  fi
  apt-get install -y --download-only llama.cpp-tools > "$apt/log" 2>&1 ||
    { cat "$apt/log" >&2; fail "llama.cpp-tools could not be downloaded from $suite"; }
  local package
  for package in "$apt"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$root.new"; done
  unset APT_CONFIG
  mv "$root.new" "$root"
  rm -rf "$apt"
  (run_server --version) > "$dir/version" 2>&1 || { cat "$dir/version" >&2; fail "the unpacked llama-server does not run"; }
  touch "$dir/ready-$suite"
}

# ggml's CPU code comes in several builds; the packaged server looks for them where the package would be installed, so it
# is told the one for this processor.
cpu_backend() {
  local flags name
  flags=" $(sed -n 's/^\(flags\|Features\)[^:]*: //p' /proc/cpuinfo | head -n 1) "
  has() { local f; for f; do [[ $flags == *" $f "* ]] || return 1; done; }
  if [ "$arch" = arm64 ]; then
    name=armv8.0_1
    has asimddp && name=armv8.2_1
    has asimddp asimdhp && name=armv8.2_2
    has asimddp asimdhp sve && name=armv8.2_3
    has asimddp asimdhp sve i8mm && name=armv8.6_1
  else
    name=x64
    has sse4_2 && name=sse42
    has avx sse4_2 && name=sandybridge
    has avx2 fma f16c bmi2 && name=haswell
    has avx2 fma f16c bmi2 avx512f avx512cd avx512bw avx512dq avx512vl && name=skylakex
    has avx2 fma f16c bmi2 avx512f avx512cd avx512bw avx512dq avx512vl avx512_vnni && name=cascadelake
  fi
  local files=("$lib"/ggml/backends*/libggml-cpu-$name.so)
  [ -f "${files[0]}" ] || fail "no CPU build \"$name\" of ggml in $lib"
  echo "${files[0]}"
}

case ${1:-} in
  setup)
    setup
    head -n 1 "$dir/version"
    ;;
  exec)
    [ $# -ge 4 ] || fail "usage: engine.sh exec MODEL.gguf PORT SLOTS [ARG...]"
    model=$2 port=$3 slots=$4
    shift 4
    [ -f "$model" ] || fail "no such model: $model"
    setup
    GGML_BACKEND_PATH=$(cpu_backend)
    export GGML_BACKEND_PATH
    # 512 tokens of context per slot is what the model pair was trained with.
    run_server --model "$model" --alias "$(basename "$model" .gguf)" --host 127.0.0.1 --port "$port" --parallel "$slots" \
      --ctx-size $((512 * slots)) --threads 1 --threads-batch 1 --poll 0 --metrics --slots --no-ui --offline \
      --cache-ram 0 "$@"
    ;;
  *)
    sed -n '2,10p' "$0" | sed 's/^# \?//'
    exit 2
    ;;
esac
