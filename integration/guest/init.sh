#!/bin/busybox sh
# The first process of the small guest. It tells on the serial port how far it is, answers HTTP at the address that the
# kernel's command line gives it, counts its starts on its disk, and heeds its power button.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /www /cd
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/null >/dev/ttyS0 2>&1
for m in /modules/*.ko; do insmod "$m" || echo "guest: no $m"; done

name=guest address=none gateway= mask= # ip=ADDRESS::GATEWAY:MASK:NAME:eth0:off, as the kernel's nfsroot.txt has it
for word in $(cat /proc/cmdline); do
	case $word in ip=*) IFS=: read -r address _ gateway mask name _ <<-END
		${word#ip=}
	END
	;; esac
done
hostname "$name"
ifconfig lo 127.0.0.1 up
if [ "$address" != none ]; then
	n=0
	while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 100 ]; do usleep 100000; n=$((n + 1)); done
	ifconfig eth0 "$address" netmask "${mask:-255.255.255.0}" up
	[ -z "$gateway" ] || route add default gw "$gateway"
fi

disk=none starts=0
if [ -e /dev/vda ]; then
	disk=$(($(cat /sys/class/block/vda/size) * 512))
	starts=$(dd if=/dev/vda bs=512 skip=2048 count=1 2>/dev/null | tr -cd 0-9)
	starts=$((${starts:-0} + 1))
	printf '%-511s\n' "$starts" | dd of=/dev/vda bs=512 seek=2048 count=1 conv=fsync 2>/dev/null
fi
cd=none
if [ -e /dev/sr0 ] && mount -t iso9660 -o ro /dev/sr0 /cd; then
	cd=mounted
	ln -s /cd /www/seed
fi
echo "$name $address disk=$disk starts=$starts cd=$cd" >/www/index.html
httpd -h /www -p 80
echo "guest: ready $(cat /www/index.html)"

# A press comes as an event of 24 bytes.
for e in /sys/class/input/event*; do
	[ "$(cat "$e/device/name" 2>/dev/null)" = "Power Button" ] && button=/dev/input/${e##*/}
done
echo "guest: button ${button:-none}"
while [ -n "$button" ] && ! dd if="$button" bs=24 count=1 >/dev/null 2>&1; do sleep 1; done
[ -n "$button" ] || sleep 1000000
echo "guest: power button"
sync
[ "$address" = none ] || ifconfig eth0 down # a packet that comes while its device is shut down may hang this kernel
poweroff -f
