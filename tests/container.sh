#!/usr/bin/env bash
# Builds the container images without a registry: a Debian 12 root made by debootstrap is the base, buildah builds deploy/container/Containerfile
# on it. Then looks at what was made, goad and goad-device: size, user, and that each runs with a read-only root.
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
mounted=()
cleanup() { [ ${#mounted[@]} = 0 ] || buildah umount "${mounted[@]}" > /dev/null || true; rm -rf "$dir"; }
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
view() {  # NAME USER: sets `root`, and $dir/view-NAME, the same and read-only
  local container
  container=$(buildah from "$1")
  mounted+=("$container")
  root=$(buildah mount "$container")
  echo "$1: $(du -sm "$root" | cut -f1) MB unpacked; user $(buildah inspect --format '{{.OCIv1.Config.User}}' "$1"); entry point $(buildah inspect --format '{{.OCIv1.Config.Entrypoint}}' "$1")"
  [ "$(buildah inspect --format '{{.OCIv1.Config.User}}' "$1")" = "$2" ] || { echo "container.sh: FAILED: $1 is not of user $2" >&2; exit 1; }
  mkdir "$dir/view-$1"
  mount --bind "$root" "$dir/view-$1"
  mount -o remount,bind,ro "$dir/view-$1"
}
started=()
stop() {
  [ ${#started[@]} = 0 ] || { kill -TERM "${started[@]}" 2> /dev/null || true; wait "${started[@]}" || true; }
  for mount in "$dir"/view-goad/run/goad "$dir"/view-*; do umount "$mount" 2> /dev/null || true; done
  cleanup
}
trap stop EXIT
until_said() {  # FILE WORDS WHAT
  for ((k = 0; k < 100; ++k)); do
    grep -q "$2" "$1" && return
    sleep 0.1
  done
  cat "$1" >&2
  echo "container.sh: FAILED: $3" >&2
  exit 1
}

echo "== run, each as its user, with a read-only root"
view goad goad
mount -t tmpfs -o "mode=0700,uid=$(chroot "$root" id -u goad),gid=$(chroot "$root" id -g goad)" tmpfs "$dir/view-goad/run/goad"
inside() { chroot --userspec=goad:goad "$dir/view-goad" "$@"; }
chroot --userspec=goad:goad "$dir/view-goad" goad --config /etc/goad/goad.yaml 2> "$dir/goad.log" & started+=($!)
until_said "$dir/goad.log" " ready " "goad does not start with a read-only root"
inside goadctl health  # as HEALTHCHECK has it
inside goadctl status | head -1
inside sh -c '! touch /etc/goad/x 2> /dev/null'
view goad-device nobody
chroot --userspec=nobody:nogroup "$dir/view-goad-device" goad-device --listen 127.0.0.1:11435 --edge 127.0.0.1:7443 2> "$dir/device.log" & started+=($!)
until_said "$dir/device.log" "ready" "goad-device does not start with a read-only root"
curl -fsS http://127.0.0.1:11435/v1/models
echo
echo "container.sh: passed"
