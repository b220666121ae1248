#!/usr/bin/env bash
# Builds the packages that people install: a Python wheel, a tarball, a Debian package, an SBOM, and checksums of all.
#
#   scripts/package.sh [--out DIR] [--target TRIPLE]...
#
#   --out DIR          where the packages go; what is in it from before is removed [default: dist]
#   --target TRIPLE    build for this platform, too: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu. This machine's is always
#                      built, as the program itself writes the manual pages and completions. A platform whose standard library
#                      rustup can't get is left out, and the end says so.
#
# The program runs on glibc 2.31 and newer (Debian 11, Ubuntu 20.04): it is linked by zig. It is a second build, of the same length
# as the first. Needs Rust through rustup, a C and C++ compiler with objdump, nasm (on x86-64), git, dpkg-deb, and Python 3.9 or newer;
# the rest is installed into the target folder, in the versions of scripts/package_tools.txt. The same commit, in a
# checkout at the same place, gives the same packages: times are the commit's. scripts/check_packages.sh tries them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

glibc=2.31
cyclonedx=0.5.9
# CAN motors: what others would have to build Sinew for.
features=can

say() { printf '== %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
misused() {
    printf 'error: %s; see scripts/package.sh --help\n' "$*" >&2
    exit 2
}

out=dist targets=("$(uname -m)-unknown-linux-gnu")
while (($#)); do
    case $1 in
        -h | --help)
            sed -n '2,/^set /p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
            exit 0
            ;;
        --out)
            [[ -n "${2:-}" ]] || misused "--out needs a folder"
            out=$2
            shift 2
            ;;
        --target)
            [[ -n "${2:-}" ]] || misused "--target needs a platform"
            [[ " ${targets[*]} " == *" $2 "* ]] || targets+=("$2")
            shift 2
            ;;
        *) misused "unexpected argument $1" ;;
    esac
done
for target in "${targets[@]}"; do
    [[ $target == @(x86_64|aarch64)-unknown-linux-gnu ]] || misused "no packages are made for $target"
done

need() { command -v "$1" >/dev/null || fail "$1 is not installed: $2"; }
need cargo "get it from https://rustup.rs"
need rustup "get it from https://rustup.rs"
need cc "it is in the package build-essential"
need c++ "it is in the package build-essential"
need objdump "it is in the package binutils"
need git "it is in the package git"
need python3 "it is in the package python3-venv"
need dpkg-deb "it is in the package dpkg"
[[ " ${targets[*]} " != *" x86_64"* ]] || need nasm "without it video encoding takes three times as long; it is in the package nasm"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[[ -n "$version" ]] || fail "Cargo.toml names no version"
commit=$(git rev-parse --short=12 HEAD) || fail "$root is no checkout of git, whose commit dates the packages"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
[[ -z "$(git status --porcelain)" ]] || say "warning: the checkout has changes that commit $commit does not have"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}" CARGO_INCREMENTAL=0
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(realpath "$CARGO_TARGET_DIR")
tools=$CARGO_TARGET_DIR/tools
# Paths of this machine do not get into the program.
separator=$'\x1f'
export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$root=/sinew$separator--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
unset RUSTFLAGS

say "sinew $version, commit $commit, for ${targets[*]}"

say "tools in $tools"
venv=$tools/package
if ! cmp -s scripts/package_tools.txt "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" || fail "python3 makes no virtual environment: install python3-venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/package_tools.txt
    cp scripts/package_tools.txt "$venv/installed.txt"
fi
if [[ "$("$tools/bin/cargo-cyclonedx" cyclonedx --version 2>/dev/null || true)" != *" $cyclonedx" ]]; then
    env -u CARGO_ENCODED_RUSTFLAGS cargo install cargo-cyclonedx --version "$cyclonedx" --locked --quiet --root "$tools"
fi
zig=$("$venv/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')

stage=$CARGO_TARGET_DIR/package
rm -rf "$stage"
mkdir -p "$stage" "$out"
out=$(realpath "$out")
rm -f "$out"/sinew[-_]* "$out"/SHA256SUMS
left_out=()

# Neither names, owners, times nor the order of files depend on who packs them.
archive() {
    tar --create --directory "$1" --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" \
        --format=gnu "$2" | gzip -9n >"$3"
}

# The program for $target, in $program, and Python's module, in $module; the newest glibc that they ask for, in $needs.
build() {
    say "$target: building (minutes, unless it was built before)"
    cargo_target=$target.$glibc
    local begin=$SECONDS
    PATH="$venv/bin:$PATH" "$venv/bin/cargo-zigbuild" zigbuild --release --locked --package sinew-cli --package sinew-python \
        --features "sinew-cli/$features" --target "$cargo_target"
    program=$CARGO_TARGET_DIR/$target/release/sinew module=$CARGO_TARGET_DIR/$target/release/lib_sinew.so
    say "$target: built in $((SECONDS - begin)) s; the program has $(wc -c <"$program") bytes, the module $(wc -c <"$module")"
    needs=$(for file in "$program" "$module"; do needed_glibc "$file"; done | sort -V | tail -1)
    say "$target: needs glibc $needs or newer, and nothing else"
}

# The newest glibc that the file $1 asks for.
needed_glibc() {
    local symbols libraries needed
    symbols=$(objdump -T "$1" 2>/dev/null || true)
    [[ -n "$symbols" ]] || fail "objdump does not read $1: install binutils-multiarch"
    needed=$(grep -o 'GLIBC_[0-9][0-9.]*' <<<"$symbols" | sed 's/GLIBC_//' | sort -Vu | tail -1)
    [[ "$(printf '%s\n' "$needed" "$glibc" | sort -V | tail -1)" == "$glibc" ]] || fail "$1 needs glibc $needed, expected at most $glibc"
    # A C++ library of this machine may be newer than that of others; relocations that are packed need glibc 2.36.
    ! grep -E 'GLIBCXX_|CXXABI_|GLIBC_ABI_DT_RELR' <<<"$symbols" >&2 || fail "$1 needs the symbols above, which older systems lack"
    libraries=$(objdump -p "$1" | sed -n 's/^ *NEEDED *//p' \
        | grep -Ev '^(lib(c|m|dl|rt|util|pthread)|ld-linux.*)\.so\.[0-9]$' || true)
    [[ -z "$libraries" ]] || fail "$1 needs libraries besides those of glibc: $libraries"
    printf '%s\n' "$needed"
}

# What all packages carry, made by the program for this machine.
common() {
    say "manual pages and completions"
    "$program" man-pages "$stage/man"
    mkdir -p "$stage/completions"
    "$program" completions bash >"$stage/completions/sinew.bash"
    "$program" completions zsh >"$stage/completions/_sinew"
    "$program" completions fish >"$stage/completions/sinew.fish"
}

wheel() {
    say "$target: wheel"
    local folder=$stage/wheel-$target
    cp -r packaging/python "$folder"
    cp README.md LICENSE "$licences" "$folder"
    # Its version is one of Python: 0.2.0-rc.1 is 0.2.0rc1 there.
    (cd "$folder" && SINEW_VERSION=$version SINEW_PROGRAM=$program SINEW_MODULE=$module \
        SINEW_PLATFORM=manylinux_${glibc/./_}_${target%%-*} \
        "$venv/bin/python" -m hatchling build --target wheel --directory "$out")
}

tarball() {
    say "$target: tarball"
    local name=sinew-$version-$target
    local folder=$stage/$name
    mkdir -p "$folder/man/man1" "$folder/udev"
    install -m 755 "$program" "$folder/sinew"
    cp README.md CHANGELOG.md LICENSE "$licences" "$folder"
    cp -r "$stage/completions" "$folder"
    cp "$stage"/man/*.1 "$folder/man/man1"
    cp packaging/udev/70-sinew.rules "$folder/udev"
    archive "$stage" "$name" "$out/$name.tar.gz"
}

debian() {
    say "$target: Debian package"
    local architecture=amd64
    [[ $target != aarch64* ]] || architecture=arm64
    # Of 0.2.0-rc.1 Debian has to know that it comes before 0.2.0.
    local of=${version/-/\~} folder=$stage/deb-$target
    local share=$folder/usr/share
    mkdir -p "$folder/DEBIAN" "$share/doc/sinew" "$share/man/man1"
    install -D -m 755 "$program" "$folder/usr/bin/sinew"
    install -D -m 644 packaging/udev/70-sinew.rules "$folder/usr/lib/udev/rules.d/70-sinew.rules"
    install -D -m 644 "$stage/completions/sinew.bash" "$share/bash-completion/completions/sinew"
    install -D -m 644 "$stage/completions/_sinew" "$share/zsh/vendor-completions/_sinew"
    install -D -m 644 "$stage/completions/sinew.fish" "$share/fish/vendor_completions.d/sinew.fish"
    cp "$stage"/man/*.1 "$share/man/man1"
    gzip -9n "$share"/man/man1/*.1
    gzip -9nc CHANGELOG.md >"$share/doc/sinew/CHANGELOG.md.gz"
    gzip -9nc "$licences" >"$share/doc/sinew/THIRD-PARTY-LICENSES.txt.gz"
    cat >"$share/doc/sinew/copyright" <<'COPYRIGHT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: sinew
Comment: The program is statically linked with libraries under other licences, all of them permissive or, by the file, MPL-2.0.
 They are named, with their texts, in THIRD-PARTY-LICENSES.txt.gz in this folder.

Files: *
Copyright: the authors of Sinew
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
    cat >"$folder/DEBIAN/control" <<CONTROL
Package: sinew
Version: $of
Architecture: $architecture
Maintainer: The maintainers of Sinew <maintainers@sinew.invalid>
Installed-Size: $(du -sk --apparent-size "$folder/usr" | cut -f1)
Depends: libc6 (>= $needs)
Suggests: ffmpeg, speech-dispatcher
Section: science
Priority: optional
Description: runs robot policies, and records LeRobot datasets
 Sinew is a realtime control loop that runs robot policies from the Hugging
 Face Hub against robots or a simulator, and records what happened as LeRobot
 datasets. The package has rules for udev: serial adapters of robots get the
 group dialout, and FTDI's answer within a millisecond.
CONTROL
    cat >"$folder/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
# What is plugged in already gets its group, too. Where no udev runs, as in a container, there is nothing to do.
if [ "$1" = configure ] && [ -d /run/udev ] && command -v udevadm >/dev/null; then
    udevadm control --reload || true
    udevadm trigger --subsystem-match=tty --subsystem-match=usb-serial --subsystem-match=hidraw || true
fi
POSTINST
    chmod 755 "$folder/DEBIAN/postinst"
    (cd "$folder" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$folder" -type d -exec chmod 755 {} +
    find "$folder/usr/share" "$folder/DEBIAN/md5sums" "$folder/DEBIAN/control" -type f -exec chmod 644 {} +
    dpkg-deb --root-owner-group -Zxz --build "$folder" "$out/sinew_${of}_$architecture.deb"
}

sbom() {
    say "$target: SBOM"
    # It writes one beside the manifest of each crate.
    local name=sinew-sbom-$$
    trap 'rm -f "$root"/crates/*/'"$name.json" EXIT
    "$tools/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path crates/cli/Cargo.toml --format json --spec-version 1.5 \
        --target "$target" --features "$features" --override-filename "$name"
    # Its own crates are named by where they lie.
    sed "s|file://$root|file:///sinew|g" "crates/cli/$name.json" >"$out/sinew-$version-$target.cdx.json"
    rm -f crates/*/"$name.json"
}

for target in "${targets[@]}"; do
    if ! rustup target add "$target" >"$stage/rustup.log" 2>&1; then
        [[ $target != "$(uname -m)"-* ]] || fail "rustup has no standard library for $target: $(tail -1 "$stage/rustup.log")"
        say "$target: LEFT OUT, as rustup can't get its standard library: $(tail -1 "$stage/rustup.log")"
        left_out+=("$target")
        continue
    fi
    build
    [[ -d "$stage/man" ]] || common
    mkdir -p "$stage/licences-$target"
    licences=$stage/licences-$target/THIRD-PARTY-LICENSES.txt
    "$venv/bin/python" scripts/third_party_licences.py --target "$target" --features "$features" --zig "$zig" --out "$licences"
    wheel
    tarball
    debian
    sbom
done

say "checksums"
(cd "$out" && LC_ALL=C sha256sum sinew[-_]* >SHA256SUMS)
say "in $out:"
(cd "$out" && wc -c -- *)
((${#left_out[@]} == 0)) || say "left out: ${left_out[*]}"
