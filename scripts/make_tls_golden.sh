#!/bin/sh
# Makes the certificates and keys of crates/remote/tests/golden/tls, which are for tests alone: two authorities, and of the first
# certificates that are valid for a hundred years, ran out, are not valid yet, or are of another name. Needs openssl.
set -eu
cd "$(dirname "$0")/../crates/remote/tests/golden/tls"
rm -f ./*.pem ./*.key
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2> /dev/null; }

: > "$work/index"
echo 1000 > "$work/serial"
cat > "$work/cnf" << END
[ca]
default_ca = d
[d]
new_certs_dir = $work
database = $work/index
serial = $work/serial
default_md = sha256
policy = p
unique_subject = no
[p]
commonName = supplied
END

# NAME AUTHORITY FROM UNTIL NAMES
certificate() {
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$work/csr"
    if [ "$1" = "$2" ]; then
        printf 'basicConstraints=critical,CA:TRUE\n' > "$work/ext"
        set -- "$@" -selfsign
    else
        printf 'subjectAltName=%s\n' "$5" > "$work/ext"
        set -- "$@" -cert "$2.pem"
    fi
    name=$1 authority=$2 from=$3 until=$4
    shift 5
    openssl ca -batch -config "$work/cnf" -keyfile "$authority.key" "$@" -in "$work/csr" -out "$name.pem" -extfile "$work/ext" \
        -startdate "$from" -enddate "$until" -notext 2> /dev/null
}

here=DNS:localhost,IP:127.0.0.1
long="20200101000000Z 21200101000000Z"
# shellcheck disable=SC2086
{
    certificate ca ca $long -
    certificate other_ca other_ca $long -
    certificate server ca $long $here
    certificate client ca $long $here
    certificate server_of_other_name ca $long DNS:other.example
    certificate client_of_other_ca other_ca $long $here
}
certificate server_old ca 20200101000000Z 20210101000000Z $here
certificate client_old ca 20200101000000Z 20210101000000Z $here
certificate client_new ca 21100101000000Z 21200101000000Z $here
rm -f other_ca.key ca.key
