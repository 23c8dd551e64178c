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
cat > /etc/goad/goad.yaml <<'YAML'
listen: {address: "127.0.0.1:7443"}
policy: {name: goa, tau: 0.8}
sites:
  - name: cell-a
    uplink: {model: measured}
    backends: [{url: "http://127.0.0.1:8082", model: emulated, api: completions, slots: 4}]
drain_timeout: 20s
decision_log: {path: /var/log/goad/decisions.jsonl}
YAML
want "goadctl check" goadctl check /etc/goad/goad.yaml
want "systemctl enable --now" systemctl enable --now goad
[ "$(of goad ActiveState)" = active ] || fail "not active"
[ "$(of goad NotifyAccess)" = main ] || fail "no notify"
ok "active, told by sd_notify: $(of goad StatusText)"
within 20 "goadctl status" goadctl status
within 20 "goadctl ask" goadctl ask "Where is Anna?"
says "emulated"

echo "== its sandbox"
pid=$(of goad MainPID)
grep -q "^NoNewPrivs:.1" /proc/$pid/status || fail "may get privileges"
grep -q "^Seccomp:.2" /proc/$pid/status || fail "no filter of system calls"
grep -q "^CapEff:.0000000000000000" /proc/$pid/status || fail "has capabilities"
[ "$(ps -o user= -p $pid)" = goad ] || fail "runs as $(ps -o user= -p $pid)"
want "systemd-analyze security" systemd-analyze security --no-pager --threshold=20 goad.service
ok "user goad, no privileges, no capabilities, system calls filtered: $(systemd-analyze security --no-pager goad.service | tail -1 | grep -o '[0-9.]* OK')"

echo "== a change"
sed -i 's/tau: 0.8/tau: 0.7/' /etc/goad/goad.yaml
goadctl status > /tmp/said
says "NOT IN FORCE"
ok "status says that the file is not in force"
want "systemctl reload" systemctl reload goad
want "goadctl status" goadctl status
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
want "a reload ends it" systemctl reload goad

echo "== decisions"
want "goadctl log" goadctl log --since 10m
says "cell-a"

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
want "enable --now" systemctl enable --now goad-device
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
