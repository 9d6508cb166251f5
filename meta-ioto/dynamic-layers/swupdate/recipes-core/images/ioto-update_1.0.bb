SUMMARY = "Update of ioto-image for SWUpdate: one signed file"
DESCRIPTION = "The root file system for the slot that is not in use, and the environment of U-Boot that starts it."
HOMEPAGE = "https://github.com/ioto-agent/ioto"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

SRC_URI = "file://sw-description"

inherit swupdate

# SWUPDATE_SIGNING, SWUPDATE_CMS_KEY and SWUPDATE_CMS_CERT are the integrator's: README.md, "Keys".
IMAGE_DEPENDS = "ioto-image"
SWUPDATE_IMAGES = "ioto-image"
SWUPDATE_IMAGES_FSTYPES[ioto-image] = ".rootfs.ext4.gz"
