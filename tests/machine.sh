#!/usr/bin/env bash
# The packages on a real systemd: a Debian 12 in a virtual machine (emulated, so that it runs everywhere: 2 minutes), without
# a network. tests/machine/inside.sh is what is tried in there, as an operator would; everything it says is printed.
#
#   tests/machine.sh      as root; installs qemu and debootstrap; by hand or nightly. Uses build-package and build-machine.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "machine.sh: FAILED: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "machine.sh: SKIPPED: needs root for debootstrap" >&2; exit 77; }
deploy/install-packages.sh machine

echo "== packages"
[ -f build-package/build.ninja ] || cmake -S . -B build-package -G Ninja -DCMAKE_INSTALL_PREFIX=/usr -DGOAD_BUILD_TESTS=OFF > /dev/null
cmake --build build-package > build-package/log || { tail -n 30 build-package/log; fail "the build"; }
rm -f build-package/*.deb
(cd build-package && cpack -G DEB > /dev/null)

work=build-machine
mkdir -p $work
base=$work/base
if [ ! -f $work/base.ready ]; then
  echo "== a Debian 12 with systemd and a kernel (debootstrap)"
  rm -rf $base
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
  debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,linux-image-cloud-amd64,python3,curl,openssl,ca-certificates,procps,iproute2,man-db,sudo,logrotate,adduser \
    bookworm $base "$mirror" > $work/log 2>&1 || { tail -n 20 $work/log; fail "debootstrap"; }
  cp -r /etc/apt/sources.list* /etc/apt/apt.conf.d $base/etc/apt/ 2> /dev/null || true
  touch $work/base.ready
fi

echo "== its disk"
rm -rf $base/goad
mkdir $base/goad
cp build-package/*.deb tests/machine/inside.sh $base/goad/
cp tests/fakes/emulated_llm.py $base/goad/
# The next versions, for upgrades.
dpkg-deb -R build-package/goad_*.deb $work/next
for version in next then; do
  sed -i "s/^Version: \([^+]*\).*/Version: \1+$version/" $work/next/DEBIAN/control
  dpkg-deb -b $work/next $base/goad/$version.deb > /dev/null
done
rm -rf $work/next
# What the packages depend on is fetched now: the machine has no network.
cp /etc/resolv.conf $base/etc/resolv.conf
chroot $base sh -c 'apt-get update && apt-get install -y --no-install-recommends --download-only /goad/goad*.deb' > $work/log 2>&1 ||
  { tail -n 20 $work/log; fail "the packages' dependencies"; }
cat > $base/etc/systemd/system/goad-machine.service <<'UNIT'
[Unit]
Description=tests/machine/inside.sh
After=multi-user.target
[Service]
Type=idle
ExecStart=/bin/bash /goad/inside.sh
ExecStopPost=/bin/systemctl poweroff --force
StandardOutput=file:/dev/ttyS0
StandardError=inherit
[Install]
WantedBy=multi-user.target
UNIT
ln -sf ../goad-machine.service $base/etc/systemd/system/multi-user.target.wants/goad-machine.service
echo goad-machine > $base/etc/hostname
printf "127.0.0.1 localhost goad-machine\n::1 localhost\n" > $base/etc/hosts
rm -f $work/disk
truncate -s 3G $work/disk
mke2fs -q -t ext4 -d $base $work/disk || fail "mke2fs"

echo "== the machine"
timeout 1200 qemu-system-x86_64 -accel tcg -m 1024 -smp 2 -nographic -no-reboot -nic none \
  -kernel "$(echo $base/boot/vmlinuz-*)" -initrd "$(echo $base/boot/initrd.img-*)" \
  -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0" -drive file=$work/disk,if=virtio,format=raw \
  < /dev/null 2>&1 | stdbuf -o0 tr -d '\r' | tee $work/console | sed -un 's/^.*\(ok: \|FAILED: \|== \|   \)/\1/p' || true
grep -q "^machine: passed" $work/console || fail "see $work/console"
echo "machine.sh: passed"
