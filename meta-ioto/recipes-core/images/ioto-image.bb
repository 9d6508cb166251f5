SUMMARY = "Small image with the device agent, for updates by root partition"
DESCRIPTION = "Read-only root, two root partitions of which an update replaces the one that is not in use, and a data \
partition that outlives updates."
LICENSE = "MIT"

inherit core-image

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_INSTALL += "\
    packagegroup-ioto \
    ioto-data \
    ${@bb.utils.contains('DISTRO_FEATURES', 'rauc', 'rauc ioto-rauc', '', d)} \
    ${@bb.utils.contains('DISTRO_FEATURES', 'swupdate', 'swupdate', '', d)} \
    ${@bb.utils.contains('DISTRO_FEATURES', 'ioto-ab', 'kernel-image kernel-modules', '', d)} \
"

# The whole medium for the first time (wic), and one root file system for updates (ext4). Mender lays out its own medium,
# with the data partition at /data as well.
IOTO_FSTYPES = "ext4 wic.gz wic.bmap ${@bb.utils.contains('DISTRO_FEATURES', 'swupdate', 'ext4.gz', '', d)}"
IOTO_FSTYPES:mender-image = ""
IMAGE_FSTYPES += "${IOTO_FSTYPES}"
# Later series look there by themselves.
WKS_SEARCH_PATH:prepend := "${THISDIR}/../../files/wic:"
WKS_FILE = "ioto-ab.wks.in"
WKS_FILE:rpi = "ioto-ab-raspberrypi.wks.in"
WICVARS:append = " IOTO_BOOT_SIZE IOTO_ROOT_SIZE IOTO_DATA_SIZE"

# In MiB. Both root partitions have the size that updates will ever need: it can not be changed in the field.
IOTO_BOOT_SIZE ?= "128"
IOTO_ROOT_SIZE ?= "768"
IOTO_DATA_SIZE ?= "512"
IMAGE_ROOTFS_MAXSIZE = "${@int(d.getVar('IOTO_ROOT_SIZE')) * 1024}"

# An update brings this file system as it is: its fstab names the partitions, and wic must not.
WIC_CREATE_EXTRA_ARGS = "--no-fstab-update"
IOTO_FSTAB = "LABEL=data /data ext4 defaults,noatime,nosuid,nodev 0 2"
# U-Boot keeps its environment there, in which an update marks its slot.
IOTO_FSTAB:rpi = "LABEL=data /data ext4 defaults,noatime,nosuid,nodev 0 2\nLABEL=boot /boot vfat defaults,noatime,sync 0 2"
IOTO_FSTAB:mender-image = ""
ioto_fstab() {
    printf '${IOTO_FSTAB}\n' >> ${IMAGE_ROOTFS}${sysconfdir}/fstab
}
ROOTFS_POSTPROCESS_COMMAND += "ioto_fstab"

# The emulator starts the kernel by itself and takes the first root partition.
QB_DEFAULT_FSTYPE = "wic"
QB_KERNEL_ROOT = "/dev/vda2"
