#!/usr/bin/env bash
# Installs and runs each package that scripts/package.sh made for this machine.
#
#   scripts/check_packages.sh [DIR]    DIR has the packages, dist unless given
#
# Checksums, the SBOM, the wheel in a new virtual environment, the tarball in an empty folder, and the Debian package: as root and
# with debootstrap in a Debian 11 of its own, which has the oldest glibc that is promised (below the target folder; kept for the next
# time), else on this machine, from which it is removed again. Manual pages, completions and rules of udev are
# checked by mandoc, man, bash, zsh, fish, lintian and udevadm as far as they are installed. The end lists what was not checked.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

case ${1:-} in
    -h | --help)
        sed -n '2,/^set /p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
        exit 0
        ;;
esac
dist=$(realpath "${1:-dist}")
[[ -f "$dist/SHA256SUMS" ]] || { echo "error: $dist has no SHA256SUMS: run scripts/package.sh first" >&2; exit 1; }
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
suite=bullseye suite_glibc=2.31

skipped=()
say() { printf '== %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
skip() {
    skipped+=("$*")
    say "not checked: $*"
}
has() { command -v "$1" >/dev/null; }
one() {
    local found=("$dist"/$1)
    ((${#found[@]} == 1)) || fail "$dist has ${#found[@]} of $1, expected one"
    printf '%s' "${found[0]}"
}

machine=$(uname -m)
wheel=$(one "sinew_robot-*_$machine.whl")
tarball=$(one "sinew-*-$machine-unknown-linux-gnu.tar.gz")
sbom=$(one "sinew-*-$machine-unknown-linux-gnu.cdx.json")
debian=$(one "sinew_*_$([[ $machine == aarch64 ]] && echo arm64 || echo amd64).deb")
version=$(basename "$tarball" "-$machine-unknown-linux-gnu.tar.gz")
version=${version#sinew-}

desk=$(mktemp -d)
trap 'rm -rf "$desk"' EXIT
# A home of its own, so that no defaults and no cache of this machine play a part.
mkdir "$desk/home"
export HOME=$desk/home HF_HUB_OFFLINE=1 LC_ALL=C.UTF-8
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME HF_HOME PYTHONPATH

# Runs the program, the words of the arguments, in an empty folder: it starts, has its robots, and its policy does its task.
try() {
    local folder said
    folder=$(mktemp -d "$desk/run.XXXX")
    said=$(cd "$folder" && "$@" --version)
    [[ "$said" == "sinew $version" ]] || fail "$* --version says '$said', expected 'sinew $version'"
    said=$(cd "$folder" && "$@" robots)
    [[ "$said" == *"SO-101 follower arm"* ]] || fail "$* robots knows no SO-101: $said"
    demonstrate "$folder" "$@"
}

# The policy works the simulated arm for one episode, which succeeds, and leaves a dataset that is whole.
demonstrate() {
    local folder=$1 said
    shift
    said=$(cd "$folder" && "$@" rollout --pace fast --episodes 1 --seed 20 2>&1) || fail "$* rollout failed: $said"
    grep -Eq '1 of 1|100(\.0)? %' <<<"$said" || fail "$* rollout: the episode did not succeed: $said"
    (cd "$folder" && "$@" dataset verify outputs/rollout-1/dataset --deep >/dev/null) \
        || fail "$*: the dataset that it left is not whole"
}

say "checksums"
(cd "$dist" && sha256sum --check --strict --quiet SHA256SUMS)
(cd "$dist" && for file in *; do [[ $file == SHA256SUMS ]] || grep -q "  $file\$" SHA256SUMS || fail "SHA256SUMS lacks $file"; done)

say "SBOM"
python3 - "$sbom" "$version" <<'PYTHON'
import json, sys
bom = json.load(open(sys.argv[1]))
assert bom["bomFormat"] == "CycloneDX" and bom["specVersion"] == "1.5", bom["bomFormat"]
assert bom["metadata"]["component"]["version"] == sys.argv[2], bom["metadata"]["component"]
names = {component["name"] for component in bom["components"]}
for name in ("candle-core", "openh264-sys2", "rapier3d", "socketcan", "sinew-core"):
    assert name in names, f"{name} is not in the SBOM"
assert not any(component.get("name", "").startswith("proptest") for component in bom["components"]), "it has what only tests need"
print(f"{len(names)} components")
PYTHON
! grep -q "$root" "$sbom" || fail "$sbom has the path of this checkout"

say "wheel"
python3 -m venv "$desk/venv"
"$desk/venv/bin/pip" install --quiet --disable-pip-version-check --no-index "$wheel"
"$desk/venv/bin/pip" check --disable-pip-version-check
try "$desk/venv/bin/sinew"
[[ "$("$desk/venv/bin/python" -m sinew --version)" == "sinew $version" ]] || fail "python -m sinew is not sinew $version"
said=$("$desk/venv/bin/python" -c 'import sinew; print(sinew.__version__)')
[[ "$said" == "$version" ]] || fail "sinew.__version__ is $said, expected $version"
said=$("$desk/venv/bin/python" -c 'import sinew; sinew.Policy' 2>&1 || true)
[[ "$said" == *"needs numpy: pip install 'sinew-robot[python]'"* ]] || fail "sinew.Policy without numpy says: $said"
if "$desk/venv/bin/pip" install --quiet --disable-pip-version-check numpy; then
    (cd "$desk" && env -u HF_HUB_OFFLINE "$desk/venv/bin/python" "$root/scripts/check_python_module.py" "$root") || fail "the Python module"
else
    skip "the Python module, as pip gets no numpy"
fi
"$desk/venv/bin/pip" uninstall --quiet --disable-pip-version-check --yes sinew-robot
[[ ! -e "$desk/venv/bin/sinew" ]] || fail "pip uninstall leaves the program behind"

say "tarball"
mkdir "$desk/unpacked"
tar --extract --gzip --file "$tarball" --directory "$desk/unpacked"
unpacked=$desk/unpacked/sinew-$version-$machine-unknown-linux-gnu
[[ -d "$unpacked" && $(ls "$desk/unpacked" | wc -l) == 1 ]] || fail "$tarball does not hold one folder of its name"
try "$unpacked/sinew"
for file in README.md LICENSE THIRD-PARTY-LICENSES.txt; do [[ -s "$unpacked/$file" ]] || fail "$tarball lacks $file"; done
! grep -qaF "$root/" "$unpacked/sinew" || say "note: the program has the path of the checkout in it"

say "manual pages"
pages=("$unpacked"/man/man1/*.1)
((${#pages[@]} > 30)) || fail "only ${#pages[@]} manual pages"
if has man; then
    for page in "${pages[@]}"; do
        # Their numbers of columns are those of a terminal; nothing but the text may be said.
        said=$(MANWIDTH=80 man --warnings -E UTF-8 -l "$page" 2>&1 >"$desk/page.txt")
        [[ -z "$said" ]] || fail "man -l $page: $said"
        grep -q '^NAME' "$desk/page.txt" || fail "man -l $page shows no NAME"
    done
else
    skip "manual pages by man"
fi
if has mandoc; then
    said=$(mandoc -Tlint -Werror "${pages[@]}" || true)
    [[ -z "$said" ]] || fail "mandoc: $said"
else
    skip "manual pages by mandoc"
fi

say "completions"
said=$(bash --norc -c 'source "$1"; COMP_WORDS=(sinew rol) COMP_CWORD=1; _sinew sinew rol sinew; echo "${COMPREPLY[@]}"' \
    - "$unpacked/completions/sinew.bash")
[[ "$said" == rollout ]] || fail "bash completes 'sinew rol' to '$said'"
if has zsh; then
    zsh -fc 'fpath=($1 $fpath); autoload -Uz compinit; compinit -u -d $2; [[ $_comps[sinew] == _sinew ]] && autoload +X _sinew' \
        - "$unpacked/completions" "$desk/zcompdump" || fail "zsh does not load its completions"
else
    skip "completions by zsh"
fi
if has fish; then
    said=$(fish --no-config -c 'source $argv[1]; complete -C "sinew rol"' "$unpacked/completions/sinew.fish")
    [[ "$said" == rollout* ]] || fail "fish completes 'sinew rol' to '$said'"
else
    skip "completions by fish"
fi

say "rules of udev"
if udevadm verify --help >/dev/null 2>&1; then
    udevadm verify --no-style "$unpacked/udev/70-sinew.rules"
else
    skip "rules of udev: udevadm verify comes with systemd 254"
fi

say "Debian package"
if has lintian; then
    # What is inside is linked into the program on purpose, and there is no address of a maintainer yet.
    HOME=$desk/home lintian --fail-on error --suppress-tags embedded-library,bogus-mail-host,no-changelog "$debian"
else
    skip "the Debian package by lintian"
fi
installed_and_removed() {
    # $1 is how to run in the place, $2 its root.
    local run=($1) place=$2 file
    "${run[@]}" dpkg --install "$3"
    for file in usr/bin/sinew usr/lib/udev/rules.d/70-sinew.rules usr/share/bash-completion/completions/sinew; do
        [[ -f "$place/$file" ]] || fail "the package installs no $file"
    done
    try "${run[@]}" sinew
    "${run[@]}" dpkg --remove sinew
    [[ ! -e "$place/usr/bin/sinew" && ! -e "$place/usr/lib/udev/rules.d/70-sinew.rules" ]] || fail "the package leaves files behind"
}
if [[ $(id -u) == 0 ]] && has debootstrap; then
    place=$tools/$suite
    if [[ ! -f "$place/complete" ]]; then
        rm -rf "$place"
        debootstrap --variant=minbase "$suite" "$place" >"$desk/debootstrap.log" 2>&1 \
            || fail "debootstrap: $(tail -3 "$desk/debootstrap.log")"
        touch "$place/complete"
    fi
    said=$(chroot "$place" getconf GNU_LIBC_VERSION)
    [[ "$said" == "glibc $suite_glibc" ]] || fail "Debian $suite has $said, expected glibc $suite_glibc"
    cp "$debian" "$place/tmp/sinew.deb"
    rm -rf "$place/tmp/sinew-runs" && mkdir "$place/tmp/sinew-runs"
    cat >"$place/tmp/sinew-run" <<'RUN'
#!/bin/sh
cd /tmp/sinew-runs && HOME=/tmp/sinew-runs exec "$@"
RUN
    chmod 755 "$place/tmp/sinew-run"
    installed_and_removed "chroot $place /tmp/sinew-run" "$place" /tmp/sinew.deb
    rm -rf "$place/tmp/sinew-runs" "$place/tmp/sinew-run" "$place/tmp/sinew.deb"
    say "the Debian package runs on $said"
elif [[ $(id -u) == 0 ]] && ! dpkg --status sinew >/dev/null 2>&1; then
    installed_and_removed "env" "" "$debian"
    skip "the program on glibc $suite_glibc: debootstrap is not installed"
else
    skip "the Debian package: only root may install it, and only where there is none yet"
fi

say "all packages for $machine install and run"
for what in "${skipped[@]}"; do say "not checked: $what"; done
