#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
#
#   tests/check.sh          everything: layers, thread annotations, all tests, the real llama-server among them
#   tests/check.sh quick    build and tests without the real llama-server
#   tests/check.sh asan     all tests under AddressSanitizer and UndefinedBehaviorSanitizer (build-asan/)
#   tests/check.sh tsan     the tests with threads under ThreadSanitizer (build-tsan/)
#   tests/check.sh fuzz [SECONDS]  each parser of foreign bytes under libFuzzer, 20 seconds each by default (build-fuzz/)
#   tests/check.sh package  the Debian packages, installed and run on a bare Debian 12 (as root)
#   tests/check.sh layers   only: who includes whom
#   tests/check.sh threads  only: clang's thread-safety analysis of our locks
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
case $what in
  all | quick | asan | tsan | fuzz | package | layers | threads) ;;
  *) sed -n '2,11p' "$0" | sed 's/^# \?//' >&2; exit 2 ;;
esac
step() { echo "== $*"; }

layers() {
  step "layers"
  /usr/bin/python3 tests/layers.py
}

# gcc ignores the annotations; clang checks them in every file of ours that is free of gRPC (whose headers take minutes).
threads() {
  step "thread annotations (clang -Wthread-safety)"
  local files
  mapfile -t files < <(git ls-files 'server/*.cc' | xargs grep -L 'grpcpp/' | grep -v main.cc)
  cmake --build build --target goad_proto > /dev/null
  printf '%s\n' "${files[@]}" | xargs -P 2 -n 4 clang++-14 -std=c++20 -fsyntax-only -I. \
    -Iclient_sdk/include -isystem build/gen -DGOAD_VERSION='""' -DSPDLOG_SHARED_LIB -DSPDLOG_COMPILED_LIB \
    -DSPDLOG_FMT_EXTERNAL -DFMT_SHARED -Wno-everything -Wthread-safety -Werror
  echo "thread annotations: ${#files[@]} files"
}

build() {  # DIR, cmake arguments...
  local dir=$1
  shift
  step "build ($dir)"
  [ -f "$dir/build.ninja" ] || cmake -S . -B "$dir" -G Ninja "$@" > "$dir.log" 2>&1 || { cat "$dir.log" >&2; exit 1; }
  rm -f "$dir.log"
  cmake --build "$dir"
}

step "packages"
deploy/install-packages.sh tests
mkdir -p build
case $what in
  layers) layers ;;
  threads) build build && threads ;;
  asan)
    build build-asan -DCMAKE_BUILD_TYPE=Debug -DGOAD_SANITIZE=address,undefined
    step "tests under ASan and UBSan"
    ctest --test-dir build-asan --output-on-failure -j2
    ;;
  tsan)
    build build-tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGOAD_SANITIZE=thread
    step "tests under ThreadSanitizer"
    TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" \
      ctest --test-dir build-tsan --output-on-failure -j2 -R "daemon|session|engine|telemetry|dispatch|sweep|simulation|hostile|failure"
    ;;
  package)
    deploy/install-packages.sh package
    build build-package -DCMAKE_INSTALL_PREFIX=/usr -DGOAD_BUILD_TESTS=OFF
    tests/package.py build-package
    ;;
  fuzz)
    tests/fuzz/run.sh "${2:-20}"
    ;;
  quick)
    build build
    step "tests"
    ctest --test-dir build --output-on-failure -j2 -E real_llm
    ;;
  all)
    layers
    build build
    threads
    step "tests"
    GOAD_SIM_RUNS=300 ctest --test-dir build --output-on-failure -j2
    ;;
esac
echo "tests/check.sh $what: passed"
