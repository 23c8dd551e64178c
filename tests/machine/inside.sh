#!/bin/bash
# Within the machine of tests/machine.sh, as root, at the end of its start. What it prints is the machine's console. The commands are
# those of deploy/README.md, as printed there.
exec 2>&1
export LC_ALL=C DEBIAN_FRONTEND=noninteractive HOME=/root
cd /goad || exit 1
ok() { echo "ok: $*"; }
show() { sed 's/^/   /'; }
fail() {
  echo "FAILED: $*"
  systemctl status goad goad-device --no-pager -n 5 | show
  journalctl -u goad -u goad-device -n 30 --no-pager | show
  exit 1
}
want() {  # WORDS COMMAND...: it succeeds
  local words=$1
  shift
  "$@" > /tmp/said 2>&1 || { show < /tmp/said; fail "$words ($*)"; }
  ok "$words"
}
refuse() {  # WORDS COMMAND...: it does not
  local words=$1
  shift
  if "$@" > /tmp/said 2>&1; then show < /tmp/said; fail "$words: succeeded ($*)"; fi
  ok "$words"
}
says() { grep -qe "$1" /tmp/said || { show < /tmp/said; fail "nothing of \"$1\" was said"; }; }
within() {  # SECONDS WORDS COMMAND...
  local end=$((SECONDS + $1)) words=$2
  shift 2
  until "$@" > /tmp/said 2>&1; do
    [ $SECONDS -lt $end ] || { show < /tmp/said; fail "$words: not in time ($*)"; }
    sleep 0.5
  done
  ok "$words"
}
of() { systemctl show -p "$2" --value "$1"; }
metric() { curl -fsS http://127.0.0.1:9464/metrics | grep -qE "$1"; }

echo "== $(systemctl --version | head -1), Linux $(uname -r)"
ip link set lo up 2> /dev/null

echo "== a first install"
want "the package installs" apt-get install -y --no-install-recommends /goad/goad_*.deb
says "goad is not started"
[ "$(of goad ActiveState)" = inactive ] || fail "a first install serves before it is configured"
[ "$(systemctl is-enabled goad)" = disabled ] || fail "a first install is enabled: $(systemctl is-enabled goad)"
ok "it is neither started nor enabled"

echo "== configured and started, as the runbook says"
python3 emulated_llm.py 8082 4 0.5 > /dev/null 2>&1 &
llm=$!
cat > /goad/goad.yaml <<'YAML'
listen: {address: "127.0.0.1:7443"}
policy: {name: goa, tau: 0.8}
sites:
  - name: cell-a
    uplink: {model: measured}
    backends: [{url: "http://127.0.0.1:8082", model: emulated, api: completions, slots: 4}]
drain_timeout: 20s
decision_log: {path: /var/log/goad/decisions.jsonl}
YAML
EDITOR="cp /goad/goad.yaml" want "sudoedit" sudoedit /etc/goad/goad.yaml
want "goadctl check, enable --now, goadctl status, in one line" \
  sh -c 'sudo goadctl check /etc/goad/goad.yaml && sudo systemctl enable --now goad && sudo goadctl status'
says serving
want "and a question at once" sudo goadctl ask "Where is Anna?"
says emulated
[ "$(of goad ActiveState)" = active ] || fail "not active"
[ "$(of goad NotifyAccess)" = main ] || fail "no notify"
ok "active, told by sd_notify: $(of goad StatusText)"
adduser --quiet --disabled-password --gecos "" you
refuse "goadctl is not for everybody" su you -c "goadctl status"
want "adduser YOU goad" adduser you goad
want "and then it is without sudo" su you -c "goadctl status"
want "systemctl status" systemctl status --no-pager goad
want "goad --check" goad --check
for page in goad goadctl goad-sim; do man -w $page > /dev/null || fail "no man page of $page"; done
grep -o 'runbook.md#[a-z]*' /usr/share/goad/prometheus/alerts.yml | cut -d'#' -f2 | sort -u > /tmp/pages
grep '^### ' /usr/share/doc/goad/runbook.md | cut -d' ' -f2 | tr A-Z a-z > /tmp/headings
[ "$(grep -cxFf /tmp/headings /tmp/pages)" = "$(wc -l < /tmp/pages)" ] || fail "an alert's page is not in the installed runbook"
ok "man pages, and the runbook with $(wc -l < /tmp/pages) pages of alerts"

echo "== its sandbox"
pid=$(of goad MainPID)
grep -q "^NoNewPrivs:.1" /proc/$pid/status || fail "may get privileges"
grep -q "^Seccomp:.2" /proc/$pid/status || fail "no filter of system calls"
grep -q "^CapEff:.0000000000000000" /proc/$pid/status || fail "has capabilities"
[ "$(stat -c '%a %U %G' /run/goad/admin.sock)" = "660 goad goad" ] || fail "admin socket: $(stat -c '%a %U %G' /run/goad/admin.sock)"
[ "$(ps -o user= -p $pid)" = goad ] || fail "runs as $(ps -o user= -p $pid)"
want "systemd-analyze security" systemd-analyze security --no-pager --threshold=20 goad.service
ok "user goad, no privileges, no capabilities, system calls filtered: $(systemd-analyze security --no-pager goad.service | tail -1 | grep -o '[0-9.]* OK')"

echo "== a change"
EDITOR="sed -i s/0[.]8/0.7/" want "sudoedit" sudoedit /etc/goad/goad.yaml
goadctl status > /tmp/said
says "NOT IN FORCE"
ok "status says that the file is not in force"
want "check, reload, status, in one line" sh -c 'sudo goadctl check /etc/goad/goad.yaml && sudo systemctl reload goad && sudo goadctl status'
says "tau *0.7"
sed -i 's/tau: 0.7/tau: 7/' /etc/goad/goad.yaml
refuse "systemctl reload fails when the file is bad" systemctl reload goad
within 5 "the metric says so" metric '^goad_config_last_reload_successful 0'
goadctl status > /tmp/said
says "tau"
journalctl -u goad -p warning --no-pager > /tmp/said
says "tau"
ok "the journal and the status say why"
[ "$(of goad MainPID)" = "$pid" ] || fail "another process serves"
sed -i 's/tau: 7/tau: 0.8/' /etc/goad/goad.yaml
want "mended" systemctl reload goad
within 5 "and the metric, too" metric '^goad_config_last_reload_successful 1'
want "goadctl tau" goadctl tau 0.6
journalctl -u goad -g operator --no-pager > /tmp/said
says "tau=0.6"
says "uid=0"
ok "who did it: $(grep -o 'operator set.*' /tmp/said | tail -1)"
want "goadctl policy --for" goadctl policy goa-relocate --for 10m
goadctl status > /tmp/said
says "goa-relocate"
want "a reload ends it" systemctl reload goad
[ "$(goadctl policy)" = goa ] || fail "policy $(goadctl policy) after a reload"
want "SIGHUP does the same" systemctl kill -s HUP goad
within 5 "and says so in the journal" sh -c 'journalctl -u goad -g operator --no-pager | grep -q SIGHUP'
sed -i 's/^listen: .*/listen: {address: "127.0.0.1:7444"}/' /etc/goad/goad.yaml
refuse "another address needs more than a reload" systemctl reload goad
goadctl status > /tmp/said
says "listen.address"
want "systemctl restart" sudo systemctl restart goad
within 20 "which has it" goadctl --address 127.0.0.1:7444 health
sed -i 's/^listen: .*/listen: {address: "127.0.0.1:7443"}/' /etc/goad/goad.yaml
want "and back" sudo systemctl restart goad
pid=$(of goad MainPID)

echo "== devices"
want "goad-tools" apt-get install -y --no-install-recommends /goad/goad-tools_*.deb
want "goad-loadgen" goad-loadgen --address 127.0.0.1:7443 --devices 5 --rate 5 --questions 20
want "goad-quickstart" goad-quickstart 127.0.0.1:7443 "Where is Anna?"
goad-loadgen --address 127.0.0.1:7443 --devices 2 --rate 2 --questions 1000000 > /dev/null 2>&1 &
fleet=$!
within 20 "goadctl sessions" sh -c 'goadctl sessions | grep -q default'
goadctl sessions | show
session=$(goadctl sessions | awk 'NR == 2 {print $1}')
want "goadctl kick" goadctl kick "$session"
for show in top "epochs --watch"; do
  timeout 5 goadctl $show > /tmp/said 2>&1
  [ -s /tmp/said ] || fail "goadctl $show shows nothing"
  ok "goadctl $show"
done
want "goadctl tenants" goadctl tenants
want "goadctl site drain" goadctl site cell-a drain
within 10 "no queries there" sh -c 'goadctl sites | grep -qE "^cell-a +[A-Za-z]+ +0 "'
goadctl sites | show
want "goadctl site resume" goadctl site cell-a resume
want "goadctl backend drain" goadctl backend cell-a http://127.0.0.1:8082 drain
want "goadctl backend resume" goadctl backend cell-a http://127.0.0.1:8082 resume
kill $fleet
journalctl -u goad -g operator --no-pager -o cat > /tmp/said
says kick
says drain
ok "the journal has who did it"
printf 'acme:%s\n' "$(printf %s TOKEN | sha256sum | cut -d' ' -f1)" > /etc/goad/tokens
printf 'auth: {tokens_file: /etc/goad/tokens, required: true}\ntenants: [{name: acme}]\n' >> /etc/goad/goad.yaml
chgrp goad /etc/goad/tokens
chmod 0640 /etc/goad/tokens
want "tokens are required" systemctl reload goad
echo GUESS > /tmp/token
refuse "a wrong token" goadctl ask "Where is Anna?" --token_file /tmp/token
want "journalctl -g unauthenticated" journalctl -u goad -g unauthenticated --no-pager
echo TOKEN > /tmp/token
want "the right one" goadctl ask "Where is Anna?" --token_file /tmp/token
want "goadctl log of its tenant" goadctl log --since 10m --tenant acme
says acme
sed -i '/^auth:/d; /^tenants:/d' /etc/goad/goad.yaml
want "none are required" systemctl reload goad

echo "== decisions"
want "goadctl log" goadctl log --since 10m
says "cell-a"

want "goadctl explain" goadctl explain "$(goadctl log --since 10m --json | grep -o '"query_id":"[^"]*"' | tail -1 | cut -d'"' -f4)"
cat > /etc/logrotate.d/goad <<'ROTATE'
/var/log/goad/decisions.jsonl {
  daily
  rotate 7
  create 0640 goad goad
  compress
  delaycompress
}
ROTATE
want "logrotate" logrotate --force /etc/logrotate.d/goad
want "a question" goadctl ask "And then?"
within 5 "is in the new file" grep -q '"kind":"decision"' /var/log/goad/decisions.jsonl
[ "$(stat -c '%a %U %G' /var/log/goad/decisions.jsonl)" = "640 goad goad" ] || fail "the new log is of another"
want "goadctl log FILE, of the old one" goadctl log /var/log/goad/decisions.jsonl.1
want "goad-sim replay" goad-sim replay --policy goa-relocate /var/log/goad/decisions.jsonl.1
want "goad-sim fit" goad-sim fit /var/log/goad/decisions.jsonl.1

echo "== the watchdog"
kill -STOP "$pid"
within 40 "a stuck goad is ended and started again" sh -c "[ \"\$(systemctl show -p NRestarts --value goad)\" -ge 1 ] && systemctl is-active goad"
within 20 "and serves" goadctl ask "And now?"

echo "== a stop with an answer under way"
kill $llm
python3 emulated_llm.py 8082 4 8 > /dev/null 2>&1 &
within 30 "a slower server is there" curl -fsS http://127.0.0.1:8082/health
within 30 "and seen" metric '^goad_backend_up\{.*\} 1'
(goadctl ask "Where is Boris?" --timeout 20s > /tmp/last 2>&1; echo "status $?" >> /tmp/last) &
asked=$!
within 10 "an answer is under way" metric '^goad_running_queries\{site="cell-a"\} 1'
want "systemctl stop" systemctl stop goad
wait $asked
grep -q "status 0" /tmp/last || { show < /tmp/last; fail "the answer was broken off by the stop"; }
ok "it was finished first"
[ "$(of goad Result)" = success ] || fail "the stop was no success: $(of goad Result)"
[ -e /run/goad ] && fail "/run/goad is left behind"

echo "== an upgrade"
want "start" systemctl start goad
within 20 "it serves" goadctl ask "Still there?"
before=$(of goad MainPID)
want "the next version" apt-get install -y --no-install-recommends /goad/next.deb
[ "$(of goad MainPID)" != "$before" ] || fail "the old process serves"
within 20 "serves after the upgrade" goadctl ask "And after it?"
grep -q "tau: 0.8" /etc/goad/goad.yaml || fail "the configuration was replaced"
ok "the configuration is kept"

want "a stop" systemctl stop goad
want "and the version after that" apt-get install -y --no-install-recommends /goad/then.deb
[ "$(of goad ActiveState)" = inactive ] || fail "an upgrade starts what was stopped"
[ "$(systemctl is-enabled goad)" = enabled ] || fail "an upgrade disables it"
ok "which leaves one that is stopped as it is"

echo "== a secret that only root may read"
install -d -m 0700 /etc/goad-secrets
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -keyout /etc/goad-secrets/tls.key -out /etc/goad/tls.crt > /dev/null 2>&1
chmod 0600 /etc/goad-secrets/tls.key
install -d /etc/systemd/system/goad.service.d
printf '[Service]\nLoadCredential=tls.key:/etc/goad-secrets/tls.key\n' > /etc/systemd/system/goad.service.d/key.conf
sed -i 's|^listen: .*|listen: {address: "127.0.0.1:7443", tls: {certificate: /etc/goad/tls.crt, key: /run/credentials/goad.service/tls.key}}|' /etc/goad/goad.yaml
systemctl daemon-reload
# ExecStartPre has the credential, a check by hand has not.
want "restart with LoadCredential" systemctl restart goad
within 20 "TLS is served" goadctl ask --ca /etc/goad/tls.crt --device localhost:7443 "Over TLS?"
want "a health check over TLS" goadctl --ca /etc/goad/tls.crt --address localhost:7443 health

echo "== goad-device"
want "its package" apt-get install -y --no-install-recommends /goad/goad-device_*.deb
sed -i 's|^GOAD_DEVICE_FLAGS=.*|GOAD_DEVICE_FLAGS="--edge localhost:7443 --ca /etc/goad/tls.crt --listen 127.0.0.1:11435"|' /etc/default/goad-device
chmod 0755 /etc/goad # its certificate is for everybody
python3 emulated_llm.py 8081 1 0.2 > /dev/null 2>&1 &
within 30 "a model server beside it" curl -fsS http://127.0.0.1:8081/health
refuse "goad-device --check of a server without log-probabilities" \
  goad-device --edge localhost:7443 --ca /etc/goad/tls.crt --local http://127.0.0.1:8081 --check
says "no log-probabilities"
says "goad, 1 sites"
want "enable --now and a look, in one line" sh -c 'sudo systemctl enable --now goad-device && curl -fsS -i http://127.0.0.1:11435/v1/models'
want "its metrics" curl -fsS http://127.0.0.1:11435/metrics
device_asks() { curl -fsS -m 20 -i http://127.0.0.1:11435/v1/completions -d '{"model": "edge", "prompt": "Hello", "max_tokens": 4}' && true; }
within 20 "an answer of the edge" device_asks
says "x-goad: edge cell-a"
want "stop" systemctl stop goad-device

echo "== the journal of a good start"
systemctl restart goad
within 20 "serves" goadctl --ca /etc/goad/tls.crt --address localhost:7443 health
journalctl -u goad -p warning --since "$(of goad ActiveEnterTimestamp | cut -d' ' -f2,3)" --no-pager -q > /tmp/said
[ ! -s /tmp/said ] || { show < /tmp/said; fail "a good start warns"; }
ok "no warning"
journalctl -u goad --since "$(of goad ActiveEnterTimestamp | cut -d' ' -f2,3)" --no-pager -q | tail -5 | show

echo "== removed and purged"
want "remove" apt-get remove -y goad
[ -e /etc/goad/goad.yaml ] || fail "remove took the configuration"
want "purge" apt-get purge -y goad
[ ! -e /etc/goad/goad.yaml ] || fail "purge left the configuration"
echo "machine: passed"
