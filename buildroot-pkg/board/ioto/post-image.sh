#!/bin/sh
# Makes sdcard.img: boot, root A, root B and data. On a Raspberry Pi config.txt starts root A; tryboot.txt, which the firmware
# reads instead after `reboot "0 tryboot"`, starts root B once.
set -eu

here=$(dirname "$0")
firmware=$BINARIES_DIR/rpi-firmware

# The kernel's command line for a root partition, which stays read-only.
cmdline() {
	echo "root=/dev/mmcblk0p$1 ro rootfstype=ext4 rootwait console=tty1 console=ttyAMA0,115200"
}

# config NUMBER NAME FILE: a configuration of the firmware that starts a root partition.
config() {
	cmdline "$1" >"$firmware/cmdline-$2.txt"
	sed '/^cmdline=/d' "$firmware/config.txt.sample" >"$firmware/$3"
	echo "cmdline=cmdline-$2.txt" >>"$firmware/$3"
}

files() {
	cd "$BINARIES_DIR"
	for file in *.dtb rpi-firmware/*; do
		case $file in
			*.sample | \*.dtb) ;;
			*) echo "$file" ;;
		esac
	done
	for kernel in Image zImage; do
		[ ! -e $kernel ] || echo $kernel
	done
}

if [ -d "$firmware" ]; then
	[ -e "$firmware/config.txt.sample" ] || cp "$firmware/config.txt" "$firmware/config.txt.sample"
	config 2 a config.txt
	config 3 b tryboot.txt
	rm -f "$firmware/cmdline.txt"
fi
files | sed 's/.*/\t\t\t"&",/' >"$BINARIES_DIR/boot-files"
sed -e "/#BOOT_FILES#/{r $BINARIES_DIR/boot-files" -e 'd}' "$here/genimage.cfg.in" >"$BINARIES_DIR/genimage.cfg"
rm "$BINARIES_DIR/boot-files"

support/scripts/genimage.sh -c "$BINARIES_DIR/genimage.cfg"
