#!/usr/bin/env bash
# goad in one command: installs, builds, starts two edge sites with a real llama-server each, goad, and a device: a third
# llama-server with a small model, and goad-device before it. Asks it two questions as any OpenAI app does, plays 50
# devices for about a minute, prints what came of it, and stops what it started.
#
#   deploy/quickstart.sh [--serve] [--accuracy A | --backend URL [--model NAME] [--api completions|chat]] [--questions N]
#
#   --serve          leave it all running until Ctrl-C, after the table, and say what to paste into an app
#   --accuracy A     promise this accuracy (0.75) with 90 % confidence instead of a tau: calibrated on the first half of the
#                    recorded questions, played with the second half (asked once each), and then what was reached
#   --backend URL    use your own OpenAI-compatible server (one site) instead of the two llama-servers
#   --model NAME     the model name it wants in requests (default: llm)
#   --api API        completions (default) or chat
#   --questions N    how many questions to play (default: 1500; with --accuracy 1000)
#
# Everything it writes is under build/. A second run re-uses what is there.
set -euo pipefail
cd "$(dirname "$0")/.."

serve=0 backend='' model=llm api=completions questions='' accuracy=''
while [ $# -gt 0 ]; do
  case $1 in
    --serve) serve=1 ;;
    --backend | --model | --api | --questions | --accuracy)
      [ $# -ge 2 ] || { echo "quickstart.sh: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help) sed -n '2,16p' "$0" | sed 's/^# \?//'; exit 0 ;;
    *) echo "quickstart.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done

if [ -n "$accuracy" ] && [ -n "$backend" ]; then
  echo "quickstart.sh: --accuracy is of the recorded models; of your own: label answers of both, goad-sim calibrate (README)" >&2
  exit 2
fi

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
  cmake --build build --target goad goadctl goad-device goad-loadgen goad-sim goad-quickstart >> "$run/build.log" 2>&1 || {
  tail -n 30 "$run/build.log" >&2
  fail "the build failed; the whole log is $run/build.log"
}

workload=deploy/llm/workload.jsonl tau='tau: 0.8' kinds='' say_kinds=()
if [ -n "$accuracy" ]; then
  step "calibration on the first half of the recorded questions"
  half=$(($(wc -l < $workload) / 2))
  head -n $half $workload > "$run/first.jsonl"
  tail -n +$((half + 1)) $workload > "$run/second.jsonl"
  build/goad-loadgen --workload "$run/first.jsonl" --labels "$run/labels.jsonl"
  build/goad-sim calibrate "$run/labels.jsonl" --accuracy "$accuracy" --confidence 0.9 --out "$run/calibration.json" ||
    fail "the labels do not bear out an accuracy of $accuracy (see above)"
  tau="calibration: \"$run/calibration.json\", accuracy: $accuracy, confidence: 0.9"
  kinds="kinds: [$(sed -n 's/.*"kind": *"\([^"]*\)".*/\1/p' "$run/labels.jsonl" | sort -u | paste -sd, -)]"
  workload=$run/second.jsonl
  say_kinds=(--kinds)
fi
questions=${questions:-$([ -z "$accuracy" ] && echo 1500 || wc -l < "$workload")}

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
policy: {name: goa, $tau}
$kinds
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

live=()
if [ -z "$backend" ]; then
  step "the device: a llama-server with the small model, and goad-device before it"
  free_port 8081
  model_port=$port
  deploy/llm/engine.sh exec deploy/llm/slm.gguf "$model_port" "$(nproc)" > "$run/device-model.log" 2>&1 < /dev/null &
  pids+=($!)
  wait_for "http://127.0.0.1:$model_port/health" $! "$run/device-model.log" "the device's llama-server"
  live=(--local "http://127.0.0.1:$model_port")
fi
if [ -z "$backend$accuracy" ]; then
  # Its radio is emulated: what reads the modem of a real device writes this file.
  echo '[{"site": "cell-a", "gain_db": -85}, {"site": "cell-b", "gain_db": -90}]' > "$run/links.json"
  while sleep 1; do touch "$run/links.json"; done &
  pids+=($!)
  free_port 11435
  device=http://127.0.0.1:$port/v1
  build/goad-device --edge "127.0.0.1:$listen" --local "http://127.0.0.1:$model_port" --listen "127.0.0.1:$port" \
    --links "$run/links.json" > "$run/goad-device.log" 2>&1 < /dev/null &
  pids=($! "${pids[@]}")
  wait_for "${device%/v1}/health" $! "$run/goad-device.log" goad-device
  tries=0
  until curl -fsS -m 2 "${device%/v1}/metrics" | grep -c '^goad_device_\(goad_connected\|local_found\) 1$' | grep -qx 2; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "goad-device finds its local server or goad not; its log is $run/goad-device.log"
    sleep 0.1
  done
  ask() {  # CONTEXT QUESTION
    local prompt="Instruction: Answer with only one word.\\nContext: $1\\nQuestion: $2\\nAnswer(only one word):"
    echo "\$ curl -i $device/completions -d '{\"model\": \"auto\", \"max_tokens\": 8, \"prompt\": \"...Question: $2...\"}'"
    curl -sS -m 30 -i "$device/completions" -H 'Content-Type: application/json' \
      -d "{\"model\": \"auto\", \"max_tokens\": 8, \"temperature\": 0, \"prompt\": \"$prompt\"}" |
      sed -n 's/\r$//; /^HTTP/p; /^x-goad/p; s/.*"text":\("[^"]*"\).*/answer: \1/p'
    printf '\n\n'
  }
  echo
  ask "Boris is curious. Boris moved to the library. Anna is tired." "Why did Boris go to the library?"
  ask "The triangle is above the star. The star is above the square." "Is the square below the star?"
fi

step "50 devices, $questions questions, about $((questions / 25)) s"
status=0
build/goad-loadgen --address "127.0.0.1:$listen" --workload "$workload" --devices 50 \
  --questions "$questions" --rate 25 --device_factor 8 "${live[@]}" "${say_kinds[@]}" || status=$?
if [ -n "$accuracy" ]; then
  echo
  build/goadctl --address "unix:$run/admin.sock" promise | sed '/^$/q' || status=$?
fi

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
  [ -z "${device:-}" ] || echo "any app    OPENAI_BASE_URL=$device OPENAI_API_KEY=none    (or base_url in its settings; model: auto)"
  wait $goad || true
fi
[ $status = 0 ] || fail "goad-loadgen ended with status $status (1: questions lost or answered twice; 3: goad not reached)"
