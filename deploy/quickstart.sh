#!/usr/bin/env bash
# goad in one command: installs, builds, starts two edge sites with a real llama-server each, starts goad, plays 50
# devices for about a minute, prints what came of it, and stops what it started.
#
#   deploy/quickstart.sh [--serve] [--backend URL [--model NAME] [--api completions|chat]] [--questions N]
#
#   --serve          leave goad and the servers running until Ctrl-C, after the table
#   --backend URL    use your own OpenAI-compatible server (one site) instead of the two llama-servers
#   --model NAME     the model name it wants in requests (default: llm)
#   --api API        completions (default) or chat
#   --questions N    how many questions to play (default: 1500)
#
# Everything it writes is under build/. A second run re-uses what is there.
set -euo pipefail
cd "$(dirname "$0")/.."

serve=0 backend='' model=llm api=completions questions=1500
while [ $# -gt 0 ]; do
  case $1 in
    --serve) serve=1 ;;
    --backend | --model | --api | --questions)
      [ $# -ge 2 ] || { echo "quickstart.sh: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help) sed -n '2,13p' "$0" | sed 's/^# \?//'; exit 0 ;;
    *) echo "quickstart.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done

run=$PWD/build/quickstart
mkdir -p "$run"
step() { echo "== $*" >&2; }
fail() { echo "quickstart.sh: $*" >&2; exit 1; }

pids=()
stop_all() {
  local pid
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
}
trap stop_all EXIT
trap 'exit 130' INT TERM

taken=' '
free_port() {  # sets `port` to the first free one from $1 on
  port=$1
  while [[ $taken == *" $port "* ]] || (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
  taken+="$port "
}
wait_for() {  # URL PID LOG WHAT: until it answers 200
  local tries=0
  until curl -fsS -m 2 -o /dev/null "$1" 2> /dev/null; do
    kill -0 "$2" 2> /dev/null || { tail -n 20 "$3" >&2; fail "$4 ended while starting; its log is $3"; }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "$4 is not ready after 30 s; its log is $3"
    sleep 0.1
  done
}

step "packages"
deploy/install-packages.sh || fail "packages are missing; see above"

step "build (the first time takes some minutes)"
{ [ -f build/build.ninja ] || cmake -S . -B build -G Ninja; } > "$run/build.log" 2>&1 &&
  cmake --build build --target goad goad-loadgen goad-sim goad-quickstart >> "$run/build.log" 2>&1 || {
  tail -n 30 "$run/build.log" >&2
  fail "the build failed; the whole log is $run/build.log"
}

sites=''
add_site() {  # NAME URL
  sites+="  - name: $1
    uplink: {model: shannon, bandwidth: 100MHz}
    backends: [{url: \"$2\", model: \"$model\", api: $api}]
"
}
if [ -n "$backend" ]; then
  add_site cell-a "$backend"
else
  step "llama-server and its two sites"
  deploy/llm/engine.sh setup >&2 || fail "llama-server could not be set up (see above); --backend URL takes your own server"
  base=8082
  for site in cell-a cell-b; do
    free_port $base
    base=$((port + 1))
    deploy/llm/engine.sh exec deploy/llm/llm.gguf "$port" 4 > "$run/$site.log" 2>&1 < /dev/null &
    pids+=($!)
    wait_for "http://127.0.0.1:$port/health" $! "$run/$site.log" "the llama-server of $site"
    add_site $site "http://127.0.0.1:$port"
  done
fi

step "goad"
free_port 7443
listen=$port
free_port 9464
metrics=$port
cat > "$run/goad.yaml" <<CONFIG
# Written by quickstart.sh; deploy/goad.yaml explains every key.
listen: {address: "127.0.0.1:$listen"}
admin: {address: "unix:$run/admin.sock"}
metrics: {address: "127.0.0.1:$metrics"}
lock_file: $run/goad.lock
policy: {name: goa, tau: 0.8}
sites:
${sites}decision_log: {path: $run/decisions.jsonl, snapshots: 1/100}
CONFIG
rm -f "$run"/decisions.jsonl*  # of an earlier run
build/goad --config "$run/goad.yaml" > "$run/goad.log" 2>&1 < /dev/null &
goad=$!
pids=($goad "${pids[@]}")  # stopped first, so that it drains while its backends live
wait_for "http://127.0.0.1:$metrics/metrics" $goad "$run/goad.log" goad
tries=0
until grep -q '^goad_backend_up{.*} 1$' <<< "$(curl -fsS -m 2 "http://127.0.0.1:$metrics/metrics")"; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || fail "no backend answers its health probe; look at ${backend:-$run/cell-a.log}"
  sleep 0.1
done

step "50 devices, $questions questions, about $((questions / 25)) s"
status=0
build/goad-loadgen --address "127.0.0.1:$listen" --workload deploy/llm/workload.jsonl --devices 50 \
  --questions "$questions" --rate 25 --device_factor 8 || status=$?

# How far off the predicted compute was: goad was told nothing of these servers.
build/goad-sim fit --after 100 "$run/decisions.jsonl" | awk '
  /^\(uploads\)/ { exit }
  / the daemon, when it decided / { site = $1 }
  / (configured|learned) +[0-9]/ {
    if (!head++) printf "\n  predicted compute of an answer, after the first 100   median error     bias\n"
    printf "  %-22s %-30s %10s %% %6s %%\n", site, $1 == "learned" ? "learned by goad" : "where it started (defaults)", $2, $4
  }'

cat <<WHERE

metrics    curl http://127.0.0.1:$metrics/metrics          (while it runs: --serve)
logs       $run/goad.log
decisions  $run/decisions.jsonl
config     $run/goad.yaml
WHERE
if [ $serve = 1 ]; then
  echo "serving    127.0.0.1:$listen, until Ctrl-C; try: build/goad-quickstart 127.0.0.1:$listen \"Where is Anna?\""
  wait $goad || true
fi
[ $status = 0 ] || fail "goad-loadgen ended with status $status (1: questions lost or answered twice; 3: goad not reached)"
