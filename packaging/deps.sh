#!/usr/bin/env bash
# Installs the Debian packages that a target of the Makefile needs, and says which. Usage: packaging/deps.sh build|demo|test|cloud|bench
# As another user than root it uses sudo where that asks for no password, else it names the packages and fails.
set -euo pipefail

build="gcc libc6-dev"                         # libvirt's binding is C; its headers come with it
demo="$build bind9-dnsutils curl ca-certificates"
[[ $(id -u) -ne 0 ]] || demo="$demo iproute2 unbound" # a network of its own, and resolvers in it
test="$demo bind9-utils iproute2 libvirt0 git" # named-checkzone; network namespaces; libvirt's own test driver; histories
test="$test nsd knot knot-dnssecutils bind9 unbound" # secondaries and a resolver; nsd-checkzone, kzonecheck
test="$test slapd"                            # a directory to log in by
test="$test haproxy"                          # the balancer of the modes tcp and http
test="$test e2fsprogs mount"                  # small file systems, which can be full
test="$test nftables"                         # rules of the kernel, as people read and write them
test="$test mariadb-server mariadb-backup python3-sqlalchemy python3-pymysql" # databases, what copies them, and what applications reach them by
test="$test qemu-system-x86 busybox-static"   # a machine whose power is cut; what lives in small ones
test="$test libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-utils genisoimage" # machines that come and go

cloud="$test mmdebstrap debian-archive-keyring fdisk openssh-client" # an image of a distribution, and who logs in there
bench="$test nsd knot dnsperf wrk"            # name servers to be compared with; clients

case "${1:-}" in
build) want=$build ;;
demo) want=$demo ;;
test) want=$test ;;
cloud) want=$cloud ;;
bench) want=$bench ;;
*)
	echo "usage: packaging/deps.sh build|demo|test|cloud|bench" >&2
	exit 2
	;;
esac

missing=()
for p in $want; do
	state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null || true)
	[[ $state == ii* ]] || missing+=("$p")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

sudo=()
if [[ $(id -u) -ne 0 ]]; then
	if sudo -n true 2>/dev/null; then
		sudo=(sudo -n)
	else
		echo "make $1 needs these Debian packages: ${missing[*]}" >&2
		echo "install them with: sudo apt-get install ${missing[*]}" >&2
		exit 1
	fi
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get -o DPkg::Lock::Timeout=120 update -qq
"${sudo[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
