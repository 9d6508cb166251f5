SUMMARY = "Keeps the device agent's state on the data partition"
DESCRIPTION = "Mounts directories of the partition at /data over /var/lib/ioto and /var/lib/ioto-helper, so that updates \
of the root file system, which may be read-only, leave them alone."
HOMEPAGE = "https://github.com/ioto-agent/ioto"
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

# In a directory of the recipe's name, where every series looks for the sources.
SRC_URI = " \
    file://ioto-data.service;subdir=${BP} \
    file://ioto-data.init;subdir=${BP} \
"

inherit allarch systemd update-rc.d

# One service and no mount units: names with an escaped dash get lost on their way into the package's scripts.
SYSTEMD_SERVICE:${PN} = "ioto-data.service"
INITSCRIPT_NAME = "ioto-data"
# After the file systems of fstab are mounted, before the run level.
INITSCRIPT_PARAMS = "start 30 S ."

do_install() {
    install -d "${D}/data"
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -D -m 0644 "${S}/ioto-data.service" "${D}${systemd_system_unitdir}/ioto-data.service"
        sed -i 's#/usr/libexec#${libexecdir}#' "${D}${systemd_system_unitdir}/ioto-data.service"
        install -D -m 0755 "${S}/ioto-data.init" "${D}${libexecdir}/ioto-data"
    fi
    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        install -D -m 0755 "${S}/ioto-data.init" "${D}${sysconfdir}/init.d/ioto-data"
    fi
}

FILES:${PN} += "/data ${systemd_system_unitdir}"
