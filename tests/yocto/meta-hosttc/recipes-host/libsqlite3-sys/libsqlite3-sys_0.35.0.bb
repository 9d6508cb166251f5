SUMMARY = "SQLite as a library of the system, from the source that the crate of this name carries"
LICENSE = "blessing"
LIC_FILES_CHKSUM = "file://sqlite3/sqlite3.h;beginline=4;endline=9;md5=9a43832f6cad44d1880df50860697a10"
PATCHDEPENDENCY = ""

SRC_URI = "crate://crates.io/${BPN}/${PV}"
SRC_URI[libsqlite3-sys-0.35.0.sha256sum] = "133c182a6a2c87864fe97778797e46c7e999672690dc9fa3ee8e241aa4a9c13f"

PROVIDES += "sqlite3"

do_compile() {
    # Not optimised: it is only linked against, and asked for the version.
    ${CC} ${CFLAGS} -O0 -U_FORTIFY_SOURCE ${LDFLAGS} -shared -fPIC -Wl,-soname,libsqlite3.so.0 -o libsqlite3.so.0 ${S}/sqlite3/sqlite3.c -lm
}

do_install() {
    install -D -m 0755 libsqlite3.so.0 ${D}${libdir}/libsqlite3.so.0
    ln -s libsqlite3.so.0 ${D}${libdir}/libsqlite3.so
    install -D -m 0644 ${S}/sqlite3/sqlite3.h ${D}${includedir}/sqlite3.h
    install -d ${D}${libdir}/pkgconfig
    printf 'Name: SQLite\nDescription: SQLite\nVersion: 3.50.2\nLibs: -L${libdir} -lsqlite3\nCflags: -I${includedir}\n' \
        > ${D}${libdir}/pkgconfig/sqlite3.pc
}
