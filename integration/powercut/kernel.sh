#!/usr/bin/env bash
# Unpacks Debian's kernel for virtual machines into a directory, without installing it: vmlinuz, and the modules of a
# virtio disk in the order of what needs what. Usage: kernel.sh DIR
set -euo pipefail
dir=$1
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
n=10
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	file=$(find "$work/all" -path "*/lib/modules/*" -name "$module.ko" -print -quit)
	[[ -z $file ]] || cp "$file" "$work/kernel/modules/$n-$module.ko" # else it is built in
	n=$((n + 1))
done
mv -T "$work/kernel" "$dir" 2>/dev/null || [[ -e $dir/vmlinuz ]] # another may have been faster
