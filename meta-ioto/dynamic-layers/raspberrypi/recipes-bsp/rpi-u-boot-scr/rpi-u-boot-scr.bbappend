# Only where the distribution asks for two root partitions: DISTRO_FEATURES has ioto-ab.
# nooelint: oelint.vars.noncoreoverride
FILESEXTRAPATHS:prepend := "${@bb.utils.contains('DISTRO_FEATURES', 'ioto-ab', '${THISDIR}/ioto-ab:', '', d)}"
