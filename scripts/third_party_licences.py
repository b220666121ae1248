#!/usr/bin/env python3
"""Writes the licences of all that is inside the program: crates, the C and C++ in them, Rust's and zig's libraries, robots.

    scripts/third_party_licences.py --target x86_64-unknown-linux-gnu --features can --out THIRD-PARTY-LICENSES.txt

A crate's licence files are taken as they are, wherever they lie in it. A crate without one gets the text of its licence, with its
authors. One whose licence has no text here is an error. Nothing is asked of the network: cargo has fetched the sources.
"""

import argparse
import html
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IS_LICENCE = re.compile(r"^(un)?(licen[cs]e|copying|copyright|notice|patents)([-_.].*)?$", re.IGNORECASE)
# Folders of a crate that are not built into anything.
NOT_BUILT = {"target", "tests", "test", "fuzz", "examples", "benches", "docs", "doc"}

MIT = """\
MIT License

Copyright (c) {authors}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
(the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge,
publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
BSD = """\
Copyright (c) {authors}

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following conditions
are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following disclaimer in
the documentation and/or other materials provided with the distribution.
{third}
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT
LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE
COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES
(INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION)
HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE)
ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
THIRD = """
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products derived from
this software without specific prior written permission.
"""


def standard_text(package):
    """The text of a licence that `package` may be used under, or None where it is not known here."""
    words = set(re.split(r"[\s()/]+", package["license"] or ""))
    authors = ", ".join(package["authors"]) or f"the authors of {package['name']}"
    if "Apache-2.0" in words:
        return (ROOT / "LICENSE").read_text()
    if "MIT" in words:
        return MIT.format(authors=authors)
    for name, third in (("BSD-2-Clause", ""), ("BSD-3-Clause", THIRD)):
        if name in words:
            return BSD.format(authors=authors, third=third)
    return None


def crates(target, features):
    """Every crate of others that the program and Python's module are compiled from."""
    found = {package["id"]: package for name in ("cli", "python") for package in crates_of(name, target, features if name == "cli" else "")}
    return sorted(found.values(), key=lambda package: (package["name"], package["version"]))


def crates_of(name, target, features):
    """Every crate of others that our crate `name` is compiled from, without those that only help to build or test it."""
    line = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    line += ["--manifest-path", str(ROOT / f"crates/{name}/Cargo.toml"), "--features", features]
    metadata = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    start = next(id for id, package in packages.items() if package["name"] == f"sinew-{name}")
    seen, open_ = {start}, [start]
    while open_:
        for dependency in nodes[open_.pop()]["deps"]:
            is_built_in = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_built_in and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                open_.append(dependency["pkg"])
    return [packages[id] for id in seen if packages[id]["source"] is not None]


def licence_files(folder):
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and IS_LICENCE.match(path.name) and path.suffix not in {".rs", ".c", ".h", ".py", ".toml"}:
            if not NOT_BUILT.intersection(inside.parts[:-1]):
                found.append(path)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="the platform that the program is for")
    parser.add_argument("--features", default="", help="the features that it is built with")
    parser.add_argument("--zig", type=Path, help="the folder of zig, whose C++ library is linked in")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    args = parser.parse_args()

    texts = defaultdict(list)

    def add(text, whose):
        # The same text is often wrapped and indented differently.
        key = " ".join(text.split())
        if key:
            texts[key].append((whose, text))

    listed, unknown = [], []
    for package in crates(args.target, args.features):
        name = f"{package['name']} {package['version']}"
        listed.append(f"  {name}: {package['license'] or 'see its text'}")
        files = licence_files(Path(package["manifest_path"]).parent)
        for path in files:
            add(path.read_text(errors="replace"), name)
        if not files:
            text = standard_text(package)
            if text is None:
                unknown.append(f"{name}: {package['license']}")
            else:
                add(text, name)
    if unknown:
        sys.exit("no licence file, and no text here for the licence of: " + "; ".join(unknown))
    if len(listed) < 100:
        sys.exit(f"only {len(listed)} crates were found, expected hundreds")

    sysroot = Path(subprocess.run(["rustc", "--print", "sysroot"], check=True, stdout=subprocess.PIPE, cwd=ROOT, text=True).stdout.strip())
    std = sysroot / "share/doc/rust/COPYRIGHT-library.html"
    add(re.sub(r"\n\s*\n+", "\n\n", html.unescape(re.sub(r"<[^>]+>", "", std.read_text()))), "Rust's standard library")
    if args.zig:
        for library in ("libcxx", "libcxxabi", "libunwind"):
            add((args.zig / "lib" / library / "LICENSE.TXT").read_text(), f"LLVM's {library}")
    for path in sorted(ROOT.glob("robots/*/LICENSE")):
        add(path.read_text(), f"robots/{path.parent.name}")

    rule = "-" * 100
    out = [
        "Sinew is under the Apache License 2.0 (the file LICENSE). This program also has in it:",
        "",
        *listed,
        "",
        "and the libraries and models that are named below. Their licences and notices:",
    ]
    for parts in sorted(texts.values(), key=lambda parts: parts[0][0].lower()):
        whose = ", ".join(dict.fromkeys(whose for whose, _ in parts))
        out += ["", rule, whose, rule, "", parts[0][1].strip("\n")]
    args.out.write_text("\n".join(out) + "\n")
    print(f"{len(listed)} crates, {len(texts)} texts in {args.out}")


if __name__ == "__main__":
    main()
