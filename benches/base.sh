# Sourced: makes the image $base, Debian as its image on the registries is, and trusting what this machine trusts.
# shellcheck shell=bash disable=SC2154
trust=/etc/ssl/certs/ca-certificates.crt
mmdebstrap --quiet --variant=minbase --include=ca-certificates --customize-hook="copy-in $trust ${trust%/*}" trixie - |
  docker import --change 'LABEL paas.bench=1' --change "ENV PIP_CERT=$trust NODE_EXTRA_CA_CERTS=$trust" - "$base" >/dev/null
