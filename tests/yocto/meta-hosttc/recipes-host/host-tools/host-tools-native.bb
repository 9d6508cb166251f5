SUMMARY = "Placeholders: the build host provides these tools"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
INHIBIT_DEFAULT_DEPS = "1"

inherit native

PROVIDES += "pseudo-native virtual/fakeroot-native rpm-native dpkg-native apt-native opkg-utils-native opkg-native \
             dwarfsrcfiles-native systemd-systemctl-native quilt-native update-rc.d-native shadow-native"

# The patch tools are among what it provides.
PATCHTOOL = "patch"
PATCHDEPENDENCY = ""
deltask do_patch

do_install() {
    install -d ${D}${bindir} ${D}${sbindir}
    for tool in dpkg-deb dwarfsrcfiles; do
        ln -s "$(readlink -f "$(command -v $tool)")" ${D}${bindir}/$tool
    done
    # Later series say --prefix by themselves; Debian's pseudo does not bring these tools through a change of root.
    for tool in useradd groupadd usermod; do
        printf '#!/bin/sh\nfor word; do\n    shift\n    [ "$word" != --root ] || word=--prefix\n    set -- "$@" "$word"\ndone\nexec /usr/sbin/%s "$@"\n' \
            $tool > ${D}${sbindir}/$tool
        chmod 0755 ${D}${sbindir}/$tool
    done
}
