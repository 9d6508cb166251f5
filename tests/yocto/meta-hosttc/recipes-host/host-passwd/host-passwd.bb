SUMMARY = "Debian's first users and groups, for recipes that add their own"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
INHIBIT_DEFAULT_DEPS = "1"
PATCHDEPENDENCY = ""

PROVIDES += "base-passwd shadow-sysroot shadow base-files initscripts update-rc.d"
RPROVIDES:${PN} += "base-passwd shadow base-files initscripts initd-functions update-rc.d ptest-runner"
ALLOW_EMPTY:${PN} = "1"

do_install() {
    install -d ${D}${sysconfdir}
    install -m 0644 /usr/share/base-passwd/passwd.master ${D}${sysconfdir}/passwd
    install -m 0644 /usr/share/base-passwd/group.master ${D}${sysconfdir}/group
    printf 'root:*:1::::::\n' > ${D}${sysconfdir}/shadow
    printf 'root:*::\n' > ${D}${sysconfdir}/gshadow
    printf 'SYS_UID_MIN 101\nSYS_UID_MAX 999\nSYS_GID_MIN 101\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\n' > ${D}${sysconfdir}/login.defs
}
SYSROOT_DIRS += "${sysconfdir}"
