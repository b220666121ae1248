#!/usr/bin/env bash
# Makes an authority and certificates for a fleet: one for each NAME, whose common name it is, and one for the router.
#
#   scripts/make_fleet_certificates.sh FOLDER DAYS ROUTER_HOST NAME…
#
# Needs openssl. FOLDER gets ca.pem and ca.key (keep that away from the robots), router.pem and router.key, NAME.pem and NAME.key.
# The test certificates in crates/remote/tests/golden/fleet are of
#   scripts/make_fleet_certificates.sh crates/remote/tests/golden/fleet 36500 localhost kitchen-1 anna wall-screen
# without ca.key.
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,4p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
folder=$1 days=$2 host=$3
shift 3
umask 077
mkdir -p "$folder"
cd "$folder"
curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
openssl req -x509 "${curve[@]}" -keyout ca.key -out ca.pem -days "$days" -subj "/CN=Sinew fleet" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
issue() { # FILE COMMON_NAME ALTERNATIVE_NAMES
    openssl req "${curve[@]}" -keyout "$1.key" -out "$1.csr" -subj "/CN=$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -out "$1.pem" 2>/dev/null \
        -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=%s\n' "$3")
    rm "$1.csr"
}
issue router router "DNS:$host"
for name in "$@"; do
    issue "$name" "$name" "DNS:$name"
done
rm -f ca.srl
