# nooelint: oelint.var.mandatoryvar.SRC_URI
SUMMARY = "Update of ioto-image for RAUC: one signed file"
DESCRIPTION = "The root file system for the slot that is not in use. RAUC writes it, and U-Boot starts it with three tries."
HOMEPAGE = "https://github.com/ioto-agent/ioto"
LICENSE = "MIT"

inherit bundle

# RAUC_KEY_FILE and RAUC_CERT_FILE are the integrator's: README.md, "Keys".
RAUC_BUNDLE_COMPATIBLE = "ioto-${MACHINE}"
RAUC_BUNDLE_VERSION ?= "${DISTRO_VERSION}"
RAUC_BUNDLE_FORMAT = "verity"
RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_SLOT_rootfs = "ioto-image"
RAUC_SLOT_rootfs[fstype] = "ext4"
RAUC_SLOT_rootfs[adaptive] = "block-hash-index"

EXCLUDE_FROM_WORLD = "1"
