#!/usr/bin/env bash
# Makes a release in this checkout: version, changelog, checks, packages, a commit and a tag. It pushes nothing.
#
#   scripts/release.sh [--dry-run] VERSION    such as 0.2.0 or 0.2.0-rc.1
#
#   --dry-run    show what would be changed, and change nothing
#
# The checkout has to be clean and on main, and "Unreleased" in CHANGELOG.md must not be empty. What fails leaves the checkout as
# it was. Takes as long as .ci/run and scripts/package.sh together.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

dry_run=0 version=
for word in "$@"; do
    case $word in
        -h | --help)
            sed -n '2,/^set /p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
            exit 0
            ;;
        --dry-run) dry_run=1 ;;
        -*) fail "unexpected option $word; see scripts/release.sh --help" ;;
        *)
            [[ -z "$version" ]] || fail "two versions were given: $version and $word"
            version=$word
            ;;
    esac
done
[[ -n "$version" ]] || fail "which version? see scripts/release.sh --help"
[[ $version =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-(alpha|beta|rc)\.[0-9]+)?$ ]] \
    || fail "the version is '$version', expected one such as 0.2.0 or 0.2.0-rc.1"

branch=$(git branch --show-current)
[[ $branch == main ]] || fail "the checkout is on '$branch', expected main"
changes=$(git status --porcelain)
[[ -z "$changes" ]] || fail "the checkout is not clean: $changes"
! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || fail "there is a tag v$version already"
current=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
# As sort knows it, 0.2.0~rc.1 comes before 0.2.0.
newest=$(printf '%s\n' "${current/-/\~}" "${version/-/\~}" | sort -V | tail -1)
[[ $newest == "${version/-/\~}" ]] || fail "the version is $version, expected one that is not below that of Cargo.toml, $current"
unreleased=$(sed -n '/^## Unreleased$/,/^## [^U]/p' CHANGELOG.md | grep '^- ' || true)
[[ -n "$unreleased" ]] || fail "CHANGELOG.md has nothing under Unreleased"

before=$(git rev-parse HEAD)
undo() {
    git reset --quiet --hard "$before"
    echo "the checkout is as it was" >&2
}
trap undo EXIT

sed -i '/^\[workspace.package\]/,/^\[/s/^version = ".*"$/version = "'"$version"'"/' Cargo.toml
cargo update --workspace --offline --quiet
sed -i 's/^## Unreleased$/## Unreleased\n\n## '"$version ($(date -u +%F))"'/' CHANGELOG.md

if ((dry_run)); then
    git --no-pager diff --stat --patch -- Cargo.toml CHANGELOG.md
    git --no-pager diff --stat -- Cargo.lock
    echo "then: .ci/run, a commit \"Release $version\", scripts/package.sh, scripts/check_packages.sh, the tag v$version"
    exit 0
fi

.ci/run
git commit --quiet --message "Release $version" Cargo.toml Cargo.lock CHANGELOG.md
# From the commit, which dates them.
scripts/package.sh
scripts/check_packages.sh
git tag --annotate --message "Sinew $version" "v$version"
trap - EXIT

cat <<NEXT
The packages of $version are in dist. To publish:
  git push origin main v$version
  the files of dist: to the release v$version on the repository's page
  the wheel: twine upload dist/*.whl
NEXT
