#!/usr/bin/env bash
# Peers that mean no good against a live goad with its default limits, one kind after the other, then all at once; beside them an honest
# device whose waits are measured, and a fleet of ten that asks real questions. Prints a row each: peak memory, the honest waits, refused, alive.
#
#   tests/hostile.sh [SECONDS]           for all kinds together, 60 by default
#   tests/hostile.sh --nginx [SECONDS]   the same with nginx (deploy/nginx/goad.conf) in front: all of it comes over TLS to nginx's port, the
#                                        attackers from an address of their own
#
# Passes when no honest query is lost or answered twice and goad never held more than 600 MiB. Needs a build (tests/check.sh quick). The
# attackers share this machine's cores, at the lowest priority. The LLM server is emulated.
set -euo pipefail
cd "$(dirname "$0")/.."
nginx=
[ "${1:-}" = --nginx ] && { nginx=yes; shift; }
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { sed -n '2,12p' "$0" | sed 's/^# \?//' >&2; exit 2; }
run=$(mktemp -d)
pids=()
stop_all() { kill -TERM "${pids[@]}" 2> /dev/null || true; wait; rm -rf "$run"; }
trap stop_all EXIT
trap 'exit 130' INT TERM

free_port() {  # sets `port`
  port=$((20000 + RANDOM % 12000))
  while (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
}
free_port; llm=$port
/usr/bin/python3 tests/fakes/emulated_llm.py "$llm" 10 0.05 & pids+=($!)
start() {  # NAME LISTEN: sets `pid` and `metrics`
  free_port; metrics=$port
  cat > "$run/$1.yaml" <<CONFIG
listen: {$2}
admin: {address: "unix:$run/$1.sock"}
metrics: {address: "127.0.0.1:$metrics"}
$more
sites:
  - name: cell-a
    uplink: {model: shannon, bandwidth: 100MHz}
    backends: [{url: "http://127.0.0.1:$llm", slots: 10}]
CONFIG
  build/goad --config "$run/$1.yaml" 2> "$run/$1.log" & pid=$!; pids+=("$pid")
  for ((k = 0; k < 300; ++k)); do
    curl -fsS -m 2 "http://127.0.0.1:$metrics/metrics" 2> /dev/null | grep -q '^goad_backend_up.* 1$' && return
    sleep 0.1
  done
  echo "hostile.sh: goad does not start:" >&2; cat "$run/$1.log" >&2; exit 1
}
more=
if [ -n "$nginx" ]; then
  more="limits: {sessions_per_identity: 10000, connections_per_address: 100000}"  # as goad.conf says
else
  free_port; listen_tls=$port
  start tls "address: \"127.0.0.1:$listen_tls\", tls: {certificate: tests/data/tls/server.pem, key: tests/data/tls/server.key}"
fi
free_port; listen=$port
start plain "address: \"127.0.0.1:$listen\""
goad=$pid
authority=()
if [ -n "$nginx" ]; then
  free_port; door=$port
  /usr/bin/python3 tests/support/nginx.py "$door" "$listen" "$run/nginx" & front=$!; pids+=("$front")
  for ((k = 0; k < 100; ++k)); do (exec 3<> "/dev/tcp/127.0.0.1/$door") 2> /dev/null && break; sleep 0.1; done
  [ "$k" -lt 100 ] || { echo "hostile.sh: nginx does not start:" >&2; cat "$run/nginx/nginx.log" >&2; exit 1; }
  listen=$door listen_tls=$door authority=(tests/data/tls/ca.pem)
fi

build/goad-loadgen --address "127.0.0.1:$listen" ${authority:+--ca "${authority[0]}"} --workload deploy/llm/workload.jsonl --devices 10 --rate 10 \
  --questions $((10 * (seconds + 20))) > "$run/fleet.log" 2>&1 & fleet=$!; pids+=($fleet)
status=0
/usr/bin/python3 tests/fakes/hostile_peers.py "$listen" "$listen_tls" "$goad" "$seconds" "$metrics" "${authority[@]}" || status=1
wait $fleet || { status=1; cat "$run/fleet.log" >&2; }
grep -E "^ +(asked|answered locally|offloaded|lost|answered twice) " "$run/fleet.log"
echo "goad's log: $(wc -l < "$run/plain.log") lines, $(grep -c warning "$run/plain.log" || true) warnings"
[ $status = 0 ] || { tail -n 20 "$run/plain.log" >&2; echo "hostile.sh: FAILED" >&2; exit 1; }
echo "hostile.sh: passed: nothing lost, nothing twice, memory bounded"
