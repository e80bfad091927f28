# To be sourced: makes the image $base, a minimal Debian with the certificates that this machine trusts.
# shellcheck shell=bash disable=SC2154,SC2016
trust=/etc/ssl/certs/ca-certificates.crt own=/usr/local/share/ca-certificates
mkdir -p $own
mmdebstrap --quiet --variant=minbase --include=ca-certificates --customize-hook="copy-in $trust ${trust%/*}" \
  --customize-hook="sync-in $own $own" --customize-hook='chroot "$1" update-ca-certificates >/dev/null' trixie - |
  docker import --change 'LABEL paas.bench=1' --change "ENV PIP_CERT=$trust NODE_EXTRA_CA_CERTS=$trust" - "$base" >/dev/null
