#!/bin/sh
# Usage: post-build.sh TARGET_DIR [CONFIG] --data DEVICE
# The root stays read-only: what lasts is on the data partition, which is /var/lib, and the rest is in memory, as Buildroot
# has it already. With DEVICE `none` /var/lib is in memory as well, for tests. Without --data this does nothing.
set -eu

target=$1
data=
while [ $# -gt 0 ]; do
	if [ "$1" = --data ]; then
		data=$2
	fi
	shift
done
[ -n "$data" ] || exit 0

fstab=$target/etc/fstab
if [ "$data" = none ]; then
	line="tmpfs /var/lib tmpfs mode=0755,nosuid,nodev 0 0"
else
	line="$data /var/lib ext4 noatime,nosuid,nodev,noexec,errors=remount-ro 0 2"
fi
# A repeated build finds its own line.
sed -i '/[[:space:]]\/var\/lib[[:space:]]/d' "$fstab"
echo "$line" >>"$fstab"
mkdir -p "$target/var/lib"
