#!/usr/bin/env bash
# Ten times more questions than two emulated LLM servers can answer, for some minutes: does memory stay flat, is the capacity still
# used, is everybody told at once? Prints a line every 10 s and a summary; passes when nothing is lost or answered twice.
#
#   tests/overload.sh [SECONDS] [TIMES]     300 seconds at 10 times the capacity (100 answers/s) by default
#
# Needs a build (tests/check.sh quick). Load generator, goad and the emulators share this machine's cores.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-300}
times=${2:-10}
[[ $seconds =~ ^[1-9][0-9]*$ && $times =~ ^[1-9][0-9]*$ ]] || { sed -n '2,8p' "$0" | sed 's/^# \?//' >&2; exit 2; }
capacity=100  # 2 sites x 10 slots / 0.2 s
run=$(mktemp -d)
pids=()
stop_all() { kill -TERM "${pids[@]}" 2> /dev/null || true; wait; rm -rf "$run"; }
trap stop_all EXIT
trap 'exit 130' INT TERM

free_port() {  # sets `port`
  port=$((20000 + RANDOM % 12000))
  while (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
}
sites=''
for site in cell-a cell-b; do
  free_port
  /usr/bin/python3 tests/fakes/emulated_llm.py "$port" 10 0.2 & pids+=($!)
  sites+="  - name: $site
    uplink: {model: shannon, bandwidth: 100MHz}
    compute: {model: batching, prefill_rate: 5000, token_time: 50ms, token_time_per_query: 0.1ms}
    backends: [{url: \"http://127.0.0.1:$port\", slots: 10}]
"
done
free_port; listen=$port
free_port; metrics=$port
cat > "$run/goad.yaml" <<CONFIG
listen: {address: "127.0.0.1:$listen"}
admin: {address: "unix:$run/admin.sock"}
metrics: {address: "127.0.0.1:$metrics"}
lock_file: $run/goad.lock
sites:
${sites}
CONFIG
build/goad --config "$run/goad.yaml" 2> "$run/goad.log" & goad=$!; pids+=($goad)
page() { curl -fsS -m 2 "http://127.0.0.1:$metrics/metrics" 2> /dev/null; }
sum() {  # NAME [LABEL]: of the series of $page
  awk -v name="$1" -v label="${2:-}" 'index($1, name) == 1 && index($0, label) > 0 && $1 !~ /^#/ { s += $NF } END { print s + 0 }' <<< "$page"
}
for ((k = 0; k < 300; ++k)); do
  page=$(page) || true
  [ "$(sum goad_backend_up)" = 2 ] && break
  sleep 0.1
done
rss_mb() { awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$goad/status"; }

echo "overload: 1,000 devices, $((capacity * times)) questions/s for $seconds s on $capacity answers/s (2 emulated LLM servers); goad idle: $(rss_mb) MB"
build/goad-loadgen --address "127.0.0.1:$listen" --workload deploy/llm/workload.jsonl --devices 1000 \
  --questions $((capacity * times * seconds)) --rate $((capacity * times)) --device_factor 8 > "$run/fleet.log" 2>&1 & fleet=$!; pids+=($fleet)
echo "   s  resident MB  answered/s   of capacity  refused at the door/s  told LOCAL/s"
before_done=0 before_refused=0 before_local=0 peak=0 start=$SECONDS
while kill -0 $fleet 2> /dev/null; do
  for ((k = 0; k < 10; ++k)); do kill -0 $fleet 2> /dev/null && sleep 1; done
  page=$(page) || continue
  answered=$(sum goad_request_duration_seconds_count completed) refused=$(sum goad_refused_total) local=$(sum goad_decisions_total LOCAL)
  rss=$(rss_mb)
  [ "$rss" -gt $peak ] && peak=$rss
  awk -v t=$((SECONDS - start)) -v rss="$rss" -v d=$((answered - before_done)) -v r=$((refused - before_refused)) -v l=$((local - before_local)) \
    -v c=$capacity 'BEGIN { printf "%4d  %11d  %10.1f  %10.0f %%  %21.1f  %12.1f\n", t, rss, d / 10, 10 * d / c, r / 10, l / 10 }'
  before_done=$answered before_refused=$refused before_local=$local
done
status=0
wait $fleet || status=$?
echo "peak resident: $peak MB; decisions by reason:"
awk '/^goad_decisions_total/ { if (match($0, /reason="[^"]*"/)) n[substr($0, RSTART + 8, RLENGTH - 9)] += $NF }
     END { for (r in n) if (n[r] > 0) printf "  %-16s %8d\n", r, n[r] }' <<< "$page" | sort
grep -E "^ +(asked|lost|answered twice) " "$run/fleet.log"
[ $status = 0 ] || { sed -n '1,200p' "$run/fleet.log" >&2; echo "overload.sh: FAILED: goad-loadgen ended with status $status (1: lost or answered twice)" >&2; exit 1; }
echo "overload.sh: passed: nothing lost, nothing twice"
