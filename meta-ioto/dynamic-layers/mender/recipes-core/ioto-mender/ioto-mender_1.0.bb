SUMMARY = "A Mender update is committed only when the device agent runs"
DESCRIPTION = "A script in the artifact that asks the agent before the update is committed; without an answer Mender goes \
back."
HOMEPAGE = "https://github.com/ioto-agent/ioto"
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

SRC_URI = "file://ArtifactCommit_Enter_50_ioto;subdir=${BP}"

inherit mender-state-scripts

# The class puts what is in this directory into the artifact.
do_compile() {
    cp "${S}/ArtifactCommit_Enter_50_ioto" "${MENDER_STATE_SCRIPTS_DIR}/ArtifactCommit_Enter_50_ioto"
}

ALLOW_EMPTY:${PN} = "1"
