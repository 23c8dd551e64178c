#!/usr/bin/env bash
# `cmake --install BUILD --prefix DIR` writes within DIR and nowhere else, whatever prefix the build was configured with; with the prefix
# of the packages the configuration goes to /etc. What runs is hardened as Debian hardens its own.
set -euo pipefail
build=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "install_test: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$dir/somewhere" > /dev/null
if grep -v "^$dir/somewhere/" "$build/install_manifest.txt"; then fail "the files above are outside of --prefix"; fi
[ -f "$dir/somewhere/etc/goad/goad.yaml" ] || fail "no etc/goad/goad.yaml within the prefix"
[ -f "$dir/somewhere/include/goad/client.h" ] || fail "no include/goad/client.h within the prefix"
PKG_CONFIG_PATH=$(dirname "$(find "$dir/somewhere" -name goad_client.pc)") pkg-config --cflags goad_client |
  grep -q "$dir/somewhere" || fail "goad_client.pc names another prefix"

# Not where sanitizers or no optimisation take the place of fortify.
if grep -q '^GOAD_SANITIZE:STRING=$' "$build/CMakeCache.txt" && ! grep -q '^CMAKE_BUILD_TYPE:[A-Z]*=Debug' "$build/CMakeCache.txt"; then
  for program in goad goadctl goad-sim goad-loadgen goad-quickstart goad-device; do
    file=$dir/somewhere/bin/$program
    readelf -d "$file" | grep -q 'FLAGS_1.*NOW.*PIE' || fail "$program is not linked with bindnow as PIE"
    readelf -lW "$file" | grep -q GNU_RELRO || fail "$program has no relro"
    symbols=$(nm -D "$file")
    grep -q '__stack_chk_fail' <<< "$symbols" || fail "$program has no stack protector"
    case $program in goad | goadctl | goad-loadgen)  # the others call nothing that fortify checks
      grep -q '__[a-z]*_chk@' <<< "$symbols" || fail "$program is not fortified"
    esac
  done
fi

DESTDIR=$dir/package cmake --install "$build" --prefix /usr --component daemon > /dev/null
[ -f "$dir/package/etc/goad/goad.yaml" ] || fail "the package has no /etc/goad/goad.yaml"
echo "install_test: everything stays within the prefix; programs are hardened"
