#!/usr/bin/env bash
# Builds the guide in docs with mdBook; a warning of it is an error.
#
#   scripts/check_guide.sh [DIR]    DIR is where the pages go, target/book unless given
#
# Uses the mdbook on the PATH when it has the version below, and else installs that one into target/tools, from crates.io.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.5.4
out=$(realpath -m "${1:-target/book}")

mdbook=mdbook
if [[ "$("$mdbook" --version 2>/dev/null || true)" != "mdbook v$version" ]]; then
    mdbook=target/tools/bin/mdbook
    if [[ "$("$mdbook" --version 2>/dev/null || true)" != "mdbook v$version" ]]; then
        cargo install mdbook --version "$version" --locked --root target/tools
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$mdbook" build docs --dest-dir "$out" 2>&1 | tee "$log"
if grep -E 'WARN|ERROR' "$log"; then
    echo "the guide has warnings" >&2
    exit 1
fi

# Every page of the table of contents became a page, and every local link in one leads to a file.
missing=0
while IFS= read -r page; do
    [[ -f "$out/${page%.md}.html" ]] || { echo "no page was made of docs/$page" >&2; missing=1; }
done < <(grep -oE '\]\([^)]+\.md\)' docs/SUMMARY.md | sed -E 's/^\]\(|\)$//g')
while IFS= read -r -d '' html; do
    folder=$(dirname "$html")
    while IFS= read -r link; do
        [[ -e "$folder/$link" ]] || { echo "${html#"$out"/}: $link is not there" >&2; missing=1; }
    done < <(grep -oE '(href|src)="[^"#:?]+["#?]' "$html" | sed -E 's/^(href|src)="//; s/.$//' | grep -v '^/' | sort -u)
done < <(find "$out" -name '*.html' ! -name '404.html' ! -name toc.html -print0)
((missing == 0)) || exit 1
echo "the guide is in $out"
