SUMMARY = "The device agent with its helper, its rescue server and its pages"
DESCRIPTION = "Everything of the device agent that a device needs, and its demo pages."
LICENSE = "MIT"

inherit packagegroup

RDEPENDS:${PN} = " \
    ioto-agent \
    ioto-agent-helper \
    ioto-agent-rescue \
    ioto-agent-www \
"
