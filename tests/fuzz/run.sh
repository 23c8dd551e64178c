#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for some seconds from its corpus: tests/fuzz/run.sh [SECONDS]. What crashes is
# left as build-fuzz/crash-*; a new input that is worth keeping goes into tests/fuzz/corpus by hand.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-20}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: SECONDS: \"$seconds\" is not a whole number above 0" >&2; exit 2; }
deploy/install-packages.sh fuzz
[ -f build-fuzz/build.ninja ] || cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-14 -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DGOAD_SANITIZE=address,undefined,fuzzer-no-link -DGOAD_FUZZ=ON > build-fuzz.log 2>&1 || { cat build-fuzz.log >&2; exit 1; }
rm -f build-fuzz.log
targets=(fuzz_sse fuzz_completion fuzz_logprobs fuzz_client fuzz_config fuzz_decision_log fuzz_trace fuzz_device fuzz_calibration fuzz_session)
cmake --build build-fuzz --target "${targets[@]}"
for target in "${targets[@]}"; do
  case $target in
    fuzz_session | fuzz_client) most=$(((3 << 20) + (64 << 10))) ;;  # a frame
    fuzz_sse | fuzz_completion | fuzz_logprobs | fuzz_device) most=$((96 << 10)) ;;  # beyond an event
    *) most=8192 ;;
  esac
  corpus=tests/fuzz/corpus/${target#fuzz_}
  found=build-fuzz/found/$target
  mkdir -p "$found"
  echo "== $target, $seconds s, from $(ls "$corpus" | wc -l) inputs"
  (cd build-fuzz && "tests/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2000 -max_len="$most" -print_final_stats=1 \
    "found/$target" "../$corpus" > "$target.log" 2>&1) || { tail -n 40 "build-fuzz/$target.log" >&2; exit 1; }
  grep -E "stat::number_of_executed_units|stat::average_exec" "build-fuzz/$target.log"
done
