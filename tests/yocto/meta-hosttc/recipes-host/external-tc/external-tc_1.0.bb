SUMMARY = "Debian's C library and compiler's library for 64-bit ARM, as the sysroot"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
INHIBIT_DEFAULT_DEPS = "1"
PATCHDEPENDENCY = ""

PROVIDES += "virtual/libc virtual/libiconv virtual/libintl glibc libgcc linux-libc-headers"

HOST_TREE = "/usr/aarch64-linux-gnu"

# What runs goes to base_libdir, what is linked against to libdir; the linker scripts then find it by name alone.
do_install() {
    install -d ${D}${base_libdir} ${D}${libdir} ${D}${includedir}
    cp -a ${HOST_TREE}/lib/*.so.* ${HOST_TREE}/lib/ld-* ${D}${base_libdir}/
    cp -a ${HOST_TREE}/lib/*.a ${HOST_TREE}/lib/*.o ${D}${libdir}/
    find ${HOST_TREE}/lib -maxdepth 1 -name '*.so' -exec cp -a {} ${D}${libdir}/ \;
    cp -a ${HOST_TREE}/include/. ${D}${includedir}/
    sed -i 's#${HOST_TREE}/lib/##g' ${D}${libdir}/libc.so
    rm -f ${D}${base_libdir}/*san* ${D}${libdir}/*san*
    chown -R root:root ${D}
}
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INHIBIT_SYSROOT_STRIP = "1"

# First of all what runs: where /usr is merged, the other directory is the same.
PACKAGES = "${PN} ${PN}-staticdev ${PN}-dev"
FILES:${PN} = "${base_libdir}/*.so.* ${base_libdir}/ld-*"
FILES:${PN}-dev = "${includedir} ${libdir}"
INSANE_SKIP:${PN} = "already-stripped ldflags libdir file-rdeps"
INSANE_SKIP:${PN}-dev = "already-stripped ldflags libdir staticdev buildpaths dev-elf"
RPROVIDES:${PN} = "glibc libgcc"
