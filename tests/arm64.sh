#!/usr/bin/env bash
# goad for arm64, on this machine: compiled by Debian's cross compiler against Debian's arm64 libraries in a Debian 12 root of its own, tested
# under qemu-user, packed, and the packages installed; and the decisions beside those of amd64, bit for bit. This machine's packages and its
# binfmt_misc stay as they are.
#
#   tests/arm64.sh [ROOT]   as root, by hand or nightly. ROOT: a folder for the root file system and the build, kept and used again
#                           (6 GB; else a temporary one). Wants build/goad-sim of this machine, and builds it where it is missing.
#
# An hour the first time on two cores, most of it compiling; the tests alone are ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "arm64.sh: FAILED: $*" >&2; exit 1; }
ok() { echo "ok: $*"; }
[ "$(id -u)" = 0 ] || { echo "arm64.sh: SKIPPED: needs root for debootstrap" >&2; exit 77; }
[ "$(dpkg --print-architecture)" = amd64 ] || fail "compares with amd64, and this is $(dpkg --print-architecture)"
deploy/install-packages.sh package

if [ -n "${1:-}" ]; then
  mkdir -p "$1"
  root=$(cd "$1" && pwd)
else
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
fi
log=$root/log
run() { "$@" > "$log" 2>&1 || { tail -n 40 "$log" >&2; fail "$*"; }; }
# In the root, with /proc and /dev that end with the command. pkg-config knows of arm64's libraries alone.
inside() {
  unshare --mount sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
    PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig "$@"' "$root" "$@"
}
cross=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
arm() { inside qemu-aarch64-static "$@"; }

if [ ! -f "$root/ready" ]; then
  echo "== a Debian 12 with the cross compiler and arm64 libraries (debootstrap)"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
  run debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror"
  cp /etc/resolv.conf "$root/etc/"
  printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
  cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
  inside dpkg --add-architecture arm64
  run inside apt-get update
  # protoc and its plugin run here; what is linked is arm64's.
  libraries=(libgrpc++-dev libprotobuf-dev libabsl-dev libre2-dev libc-ares-dev libssl-dev zlib1g-dev prometheus-cpp-dev libyaml-cpp-dev
    libcurl4-openssl-dev libspdlog-dev libsimdjson-dev libcpp-httplib-dev libsystemd-dev libgtest-dev libgmock-dev)
  run inside apt-get install -y --no-install-recommends g++-aarch64-linux-gnu qemu-user-static cmake ninja-build pkg-config dpkg-dev file \
    help2man protobuf-compiler protobuf-compiler-grpc nlohmann-json3-dev "${libraries[@]/%/:arm64}"
  touch "$root/ready"
fi

echo "== build"
rm -rf "$root/goad"
mkdir "$root/goad"
git ls-files -z -co --exclude-standard | tar --null -T - -c | tar -x -C "$root/goad"
[ -f "$root/build/build.ninja" ] || run inside cmake -S /goad -B /build -G Ninja -DCMAKE_INSTALL_PREFIX=/usr "${cross[@]}" \
  -DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64-static
run inside cmake --build /build -j2
ok "built: $(inside file -b /build/goad | cut -d, -f1-2)"

# Those that ctest starts as programs, which it then gives to qemu. The others are scripts, which would start goad themselves.
echo "== tests under qemu-user"
scripts='reasons|install_test|service_test|operator_test|promise_test|daily_acts_test|prometheus_test|alerts_test|nginx_test|real_llm_test|device_test|goad_sim_test'
inside env GOAD_SIM_RUNS=5 ctest --test-dir /build -j2 --output-on-failure -E "(^|/)($scripts)\$" > "$log" 2>&1 ||
  { grep -A 40 "Failed\|Timeout" "$log" | tail -n 80 >&2; fail "tests"; }
ok "$(grep "tests passed" "$log")"

echo "== decisions beside those of amd64"
[ -f build/build.ninja ] || cmake -S . -B build -G Ninja > /dev/null
cmake --build build --target goad-sim > "$log" 2>&1 || { tail -n 30 "$log" >&2; fail "build/goad-sim"; }
mkdir -p "$root/decisions"
digest() { sha256sum | cut -c 1-16; }
for policy in goa goa-relocate min-delay all-edge all-local random genetic reference; do
  here=$(for file in edge random tau-sweep quirks; do build/goad-sim solve --policy $policy tests/data/goa-vectors/$file.json; done | digest)
  there=$(for file in edge random tau-sweep quirks; do arm /build/goad-sim solve --policy $policy /goad/tests/data/goa-vectors/$file.json; done | digest)
  [ "$here" = "$there" ] || fail "the golden vectors under $policy: $here on amd64, $there on arm64"
  ok "the golden vectors under $policy, assignment, order and total: $here on both"
done
# What is drawn at random may differ in the last bit of a logarithm, so each decides again what the other one logged.
for policy in goa goa-relocate; do
  build/goad-sim run --policy $policy --seconds 5 --log "$root/decisions/amd64-$policy.jsonl" > /dev/null
  arm /build/goad-sim run --policy $policy --seconds 5 --log /decisions/arm64-$policy.jsonl > /dev/null
  arm /build/goad-sim replay /decisions/amd64-$policy.jsonl > "$log" || fail "arm64 decides otherwise than amd64 logged: $(cat "$log")"
  ok "amd64's log of $policy on arm64: $(head -n 1 "$log")"
  build/goad-sim replay "$root/decisions/arm64-$policy.jsonl" > "$log" || fail "amd64 decides otherwise than arm64 logged: $(cat "$log")"
  ok "arm64's log of $policy on amd64: $(head -n 1 "$log")"
  for other in goa goa-relocate min-delay random; do
    here=$(build/goad-sim replay --policy $other "$root/decisions/amd64-$policy.jsonl" | digest)
    there=$(arm /build/goad-sim replay --policy $other /decisions/amd64-$policy.jsonl | digest)
    [ "$here" = "$there" ] || fail "that log under $other: $here on amd64, $there on arm64"
  done
done
# What watches over this must be able to see it.
sed 's/e-10/e-13/g' "$root/decisions/amd64-goa.jsonl" > "$root/decisions/other.jsonl"
! arm /build/goad-sim replay /decisions/other.jsonl > "$log" || fail "a log whose gains are others is decided as logged"

echo "== packages"
rm -f "$root"/build/*.deb
run inside sh -c 'cd /build && dpkg-architecture -a arm64 -c cpack -G DEB -D CPACK_DEBIAN_PACKAGE_ARCHITECTURE=arm64'
debs=(goad goad-device goad-tools goad-client-dev)
for name in "${debs[@]}"; do
  deb=$(echo "$root"/build/"$name"_*_arm64.deb)
  [ -f "$deb" ] && [ "$(dpkg-deb -f "$deb" Architecture)" = arm64 ] || fail "$name is not for arm64: $deb"
  ok "$(basename "$deb") $(($(stat -c %s "$deb") / 1000)) kB"
done
inside apt-get purge -y "${debs[@]/%/:arm64}" > /dev/null 2>&1 || true  # of an earlier run
run inside sh -c 'apt-get install -y --no-install-recommends /build/*_arm64.deb'
for program in goad goadctl goad-sim goad-device goad-loadgen; do
  arm /usr/bin/$program --version > "$log" 2>&1 && grep -q "goad" "$log" || fail "$program --version: $(cat "$log")"
done
arm /usr/bin/goadctl check /etc/goad/goad.yaml | grep -q "good$" || fail "the installed configuration"
ok "installed with what they depend on; $(arm /usr/bin/goad --version | head -n 1)"
inside rm -rf /example
inside cp -r /usr/share/doc/goad-client-dev/examples /example
run inside cmake -S /example -B /example/build "${cross[@]}"
run inside cmake --build /example/build
arm /example/build/goad-quickstart > "$log" 2>&1 || true
grep -q "usage:" "$log" || fail "the example: $(cat "$log")"
ok "the installed SDK builds its example by find_package(goad_client)"
echo "arm64.sh: passed"
