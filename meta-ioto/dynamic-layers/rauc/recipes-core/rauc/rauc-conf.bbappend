# The slots of ioto-image, by machine, where the distribution asks for them: DISTRO_FEATURES has ioto-ab. The keyring is
# the integrator's: RAUC_KEYRING_FILE.
# nooelint: oelint.vars.noncoreoverride
FILESEXTRAPATHS:prepend := "${@bb.utils.contains('DISTRO_FEATURES', 'ioto-ab', '${THISDIR}/files:', '', d)}"
