#!/usr/bin/env bash
# Unpacks Debian's kernel for virtual machines into a directory, without installing it: vmlinuz, and the named modules as
# far as they are not built in. Usage: kernel.sh DIR MODULE...
set -euo pipefail
dir=$1
shift
[[ -e $dir/vmlinuz ]] && exit 0

newest() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | sed -n 1p; }
package=$(newest || true)
if [[ -z $package && $(id -u) -eq 0 ]]; then
	apt-get update -qq
	package=$(newest || true)
fi
if [[ -z $package ]]; then
	echo "apt knows no linux-image-cloud-amd64: run apt-get update" >&2
	exit 1
fi
mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.new-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
(cd "$work" && apt-get download -qq "$package" && dpkg -x ./*.deb all)
mkdir -p "$work/kernel/modules"
cp "$work"/all/boot/vmlinuz-* "$work/kernel/vmlinuz"
for module in "$@"; do
	file=$(find "$work/all" -path "*/lib/modules/*" -name "$module.ko" -print -quit)
	[[ -z $file ]] || cp "$file" "$work/kernel/modules/$module.ko" # else it is built in
done
mv -T "$work/kernel" "$dir" 2>/dev/null || [[ -e $dir/vmlinuz ]] # another may have been faster
