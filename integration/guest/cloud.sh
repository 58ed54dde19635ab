#!/usr/bin/env bash
# Makes the disk of a cloud image in a directory, disk.qcow2: Debian with its kernel, GRUB in front of it, an sshd, and
# cloud-init as it is packaged. Usage: cloud.sh DIR. It needs root, mmdebstrap, fdisk, qemu-utils, and Debian's mirror.
set -euo pipefail
dir=$1
[[ -e $dir/disk.qcow2 ]] && exit 0

sources() { # the lines of Debian's own mirror, as apt is set up here
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null | sort -u
}
mirror=$(sources)
if [[ -z $mirror ]]; then
	apt-get update -qq
	mirror=$(sources)
fi
if [[ -z $mirror ]]; then
	echo "apt knows no mirror of Debian: run apt-get update" >&2
	exit 1
fi
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.new-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
root=$work/root raw=$work/disk.raw

# The initrd has what finds a virtio disk and the CD beside it, and is made once, with the kernel.
mmdebstrap --quiet --mode=root --variant=apt --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
	--include=systemd-sysv,dbus,udev,linux-image-cloud-amd64,grub-pc-bin,cloud-init,cloud-guest-utils,openssh-server,sudo,iproute2 \
	--dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
	--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && echo MODULES=list >"$1/etc/initramfs-tools/conf.d/small"' \
	--essential-hook='printf "%s\n" virtio_pci virtio_blk virtio_scsi sr_mod isofs ext4 >"$1/etc/initramfs-tools/modules"' \
	"$suite" "$root" <<<"$mirror" >"$work/log" 2>&1 || {
	tail -n 30 "$work/log" >&2
	exit 1
}

# What an image brings along. Whatever is a machine's own (name, keys, network) is cloud-init's.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname"
: >"$root/etc/machine-id"
echo '/dev/vda1 / ext4 defaults 0 1' >"$root/etc/fstab"
# What an emulated processor takes long for: keys of more kinds, and the locales that cloud-init would make.
printf '%s\n' 'ssh_genkeytypes: [ed25519]' 'locale: false' >"$root/etc/cloud/cloud.cfg.d/10-quick.cfg"
chroot "$root" systemctl enable -q systemd-networkd
chroot "$root" systemctl mask -q apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer

# GRUB, as on any disk with a partition table: its first sector, and the rest of it before the first partition.
kernel=$(basename "$root"/boot/vmlinuz-*)
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_output serial
echo "GRUB: Linux from this disk"
linux /boot/$kernel root=/dev/vda1 ro quiet console=ttyS0 mitigations=off no5lvl
initrd /boot/${kernel/vmlinuz/initrd.img}
boot
END
chroot "$root" grub-mkimage --format i386-pc --prefix '(hd0,msdos1)/boot/grub' --output /boot/grub/core.img \
	biosdisk part_msdos ext2 normal linux serial terminal echo boot
truncate -s 1G "$raw"
echo 'start=2048, type=83, bootable' | sfdisk -q --label dos "$raw"
dd if="$root/usr/lib/grub/i386-pc/boot.img" of="$raw" bs=440 count=1 conv=notrunc status=none
dd if="$root/boot/grub/core.img" of="$raw" bs=512 seek=1 conv=notrunc status=none
mke2fs -q -t ext4 -L root -d "$root" -E offset=$((2048 * 512)) "$raw" $(((1 << 20) - 1024))k
mkdir "$work/disk"
qemu-img convert -f raw -O qcow2 "$raw" "$work/disk/disk.qcow2"
mv -T "$work/disk" "$dir" 2>/dev/null || [[ -e $dir/disk.qcow2 ]] # another may have been faster
