#!/usr/bin/env bash
# Builds the container image without a registry: a Debian 12 root made by debootstrap is the base, buildah builds deploy/container/Containerfile
# on it. Then looks at what was made: size, user, and that goad runs with a read-only root.
#
#   tests/container.sh      as root; installs buildah and debootstrap; takes minutes (goad is compiled in the image)
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "container.sh: SKIPPED: needs root for debootstrap" >&2; exit 77; }
deploy/install-packages.sh container
dir=$(mktemp -d)
# Nothing of other images or stores of this machine is touched.
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF=$dir/storage.conf
printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n' "$dir" "$dir" > "$dir/storage.conf"
mounted=''
cleanup() { [ -z "$mounted" ] || buildah umount "$mounted" > /dev/null || true; rm -rf "$dir"; }
trap cleanup EXIT

echo "== base: Debian 12 by debootstrap"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
debootstrap --variant=minbase bookworm "$dir/base" "$mirror" > "$dir/log" 2>&1 || { tail -n 20 "$dir/log" >&2; exit 1; }
cp -r /etc/apt/sources.list* /etc/apt/apt.conf.d "$dir/base/etc/apt/" 2> /dev/null || true
base=$(buildah from scratch)
buildah copy -q "$base" "$dir/base" / > /dev/null
buildah commit -q "$base" localhost/debian-12 > /dev/null
buildah rm "$base" > /dev/null
rm -rf "$dir/base"

echo "== buildah bud"
git ls-files -z -co --exclude-standard | tar --null -T - -c | { mkdir "$dir/context"; tar -x -C "$dir/context"; }
bud() {  # NAME FLAGS...: --layers, so that the second image takes goad's build from the first
  buildah bud -q --layers --format docker --network host --build-arg BASE=localhost/debian-12 -f "$dir/context/deploy/container/Containerfile" \
    -t "$@" "$dir/context" > "$dir/log" 2>&1 || { tail -n 40 "$dir/log" >&2; echo "container.sh: FAILED: buildah bud -t $*" >&2; exit 1; }
}
bud goad
bud goad-device --target device
size() { du -sm "$1" | cut -f1; }
image=$(buildah from goad)
mounted=$image
root=$(buildah mount "$image")
echo "image: $(size "$root") MB unpacked; user $(buildah inspect --format '{{.OCIv1.Config.User}}' goad); entry point $(buildah inspect --format '{{.OCIv1.Config.Entrypoint}}' goad)"
[ "$(buildah inspect --format '{{.OCIv1.Config.User}}' goad)" = goad ] || { echo "container.sh: FAILED: not user goad" >&2; exit 1; }

echo "== run, as its user, with a read-only root"
mkdir "$dir/view" "$dir/lower"
mount --bind "$root" "$dir/view"
mount -o remount,bind,ro "$dir/view"
mount -t tmpfs -o "mode=0700,uid=$(chroot "$root" id -u goad),gid=$(chroot "$root" id -g goad)" tmpfs "$dir/view/run/goad"
log=$dir/goad.log
touch "$log"
chroot --userspec=goad:goad "$dir/view" goad --config /etc/goad/goad.yaml 2> "$log" & goad=$!
stop() { kill -TERM $goad 2> /dev/null || true; wait $goad || true; umount "$dir/view/run/goad" "$dir/view"; cleanup; }
trap stop EXIT
for ((k = 0; k < 100; ++k)); do
  grep -q " ready " "$log" && break
  sleep 0.1
done
grep -q " ready " "$log" || { cat "$log" >&2; echo "container.sh: FAILED: goad does not start with a read-only root" >&2; exit 1; }
chroot --userspec=goad:goad "$dir/view" goadctl health  # as HEALTHCHECK has it
chroot --userspec=goad:goad "$dir/view" goadctl status | head -1
chroot --userspec=goad:goad "$dir/view" sh -c '! touch /etc/goad/x 2> /dev/null'
echo "container.sh: passed"
