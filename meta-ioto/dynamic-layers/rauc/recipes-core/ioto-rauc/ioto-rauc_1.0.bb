SUMMARY = "An update counts as good only when the device agent runs"
DESCRIPTION = "RAUC's own service marks the slot as good at the end of a start. With this it waits for the agent; if the \
agent does not come up, the tries run out and the other slot is started."
HOMEPAGE = "https://github.com/ioto-agent/ioto"
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

SRC_URI = "file://ioto.conf;subdir=${BP}"

inherit allarch

do_install() {
    install -D -m 0644 "${S}/ioto.conf" "${D}${systemd_system_unitdir}/rauc-mark-good.service.d/ioto.conf"
}

FILES:${PN} += "${systemd_system_unitdir}"
RDEPENDS:${PN} = "ioto-agent"
