#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
#
#   tests/check.sh          everything: layers, format, tidy, all tests, the real llama-server, the OpenAI client from npm and the schemas of Kubernetes among them
#   tests/check.sh quick    build and tests without the real llama-server
#   tests/check.sh asan     all tests under AddressSanitizer and UndefinedBehaviorSanitizer (build-asan/)
#   tests/check.sh tsan     all tests under ThreadSanitizer (build-tsan/)
#   tests/check.sh fuzz [SECONDS]  each parser of foreign bytes under libFuzzer, 20 seconds each by default (build-fuzz/)
#   tests/check.sh package  the Debian packages, installed and run on a bare Debian 12 (as root)
#   tests/check.sh layers   only: who includes whom
#   tests/check.sh format   only: clang-format; `clang-format-14 -i FILE` mends
#   tests/check.sh tidy     only: .clang-tidy, and clang's thread-safety analysis of our locks
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
case $what in
  all | quick | asan | tsan | fuzz | package | layers | format | tidy) ;;
  *) sed -n '2,12p' "$0" | sed 's/^# \?//' >&2; exit 2 ;;
esac
step() { echo "== $*"; }

layers() {
  step "layers"
  /usr/bin/python3 tests/layers.py
}

# In every file of ours that is free of gRPC (whose headers take minutes): .clang-tidy, and clang's thread-safety analysis,
# because gcc ignores the annotations of our locks.
tidy() {
  step "tidy"
  local files
  mapfile -t files < <(git ls-files 'server/*.cc' 'scheduler/*.cc' 'client_sdk/*.cc' | xargs grep -L 'grpcpp/' | grep -v main.cc)
  printf '%s\n' "${files[@]}" | xargs -P 2 -n 6 clang-tidy-14 -p build --quiet --extra-arg=-Wthread-safety \
    --extra-arg=-Wno-unknown-warning-option 2> build/tidy.err > build/tidy.log || {
    cat build/tidy.log build/tidy.err >&2
    exit 1
  }
  echo "tidy: ${#files[@]} files"
}

# .clang-format decides how a line is broken, nobody else.
format() {
  step "format"
  local files
  mapfile -t files < <(git ls-files '*.cc' '*.h')
  clang-format-14 --dry-run --Werror "${files[@]}"
  echo "format: ${#files[@]} files"
}

# Not ctests, which would not show why they were skipped: what they need comes from npm's registry.
openai_npm() {
  step "the official OpenAI client (npm)"
  tests/integration/openai_npm_test.py build || [ $? = 77 ]
}

kubernetes() {
  step "deploy/kubernetes (kubectl, npm's kubernetes-models)"
  tests/integration/kubernetes_test.py build || [ $? = 77 ]
}

build() {  # DIR, cmake arguments...
  local dir=$1
  shift
  step "build ($dir)"
  [ -f "$dir/build.ninja" ] || cmake -S . -B "$dir" -G Ninja "$@" > "$dir.log" 2>&1 || { cat "$dir.log" >&2; exit 1; }
  rm -f "$dir.log"
  cmake --build "$dir"
}

if [ "$what" != layers ]; then  # which needs python alone
  step "packages"
  deploy/install-packages.sh tests
fi
mkdir -p build
case $what in
  layers) layers ;;
  format) format ;;
  tidy) build build && tidy ;;
  asan)
    build build-asan -DCMAKE_BUILD_TYPE=Debug -DGOAD_SANITIZE=address,undefined
    step "tests under ASan and UBSan"
    ctest --test-dir build-asan --output-on-failure -j2
    ;;
  tsan)
    build build-tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGOAD_SANITIZE=thread
    step "tests under ThreadSanitizer"
    TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" ctest --test-dir build-tsan --output-on-failure -j2
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
    ctest --test-dir build --output-on-failure -j2 -E 'real_llm|device_test'
    ;;
  all)
    layers
    format
    build build
    tidy
    step "tests"
    GOAD_SIM_RUNS=300 ctest --test-dir build --output-on-failure -j2
    openai_npm
    kubernetes
    ;;
esac
echo "tests/check.sh $what: passed"
