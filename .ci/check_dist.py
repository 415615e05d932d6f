"""Check the files of a release before they are published.

    python .ci/check_dist.py DIST [--complete] [--tag TAG]

Metadata by twine, Linux wheels by auditwheel, and what is in each. --complete: there is a wheel for every platform and
Python. --tag: they are of the version that the tag names, and it is ready to be released.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["cp310", "cp311", "cp312", "cp313", "cp314"]
PLATFORMS = {
    r"manylinux_\d+_\d+_x86_64": PYTHONS,
    r"manylinux_\d+_\d+_aarch64": PYTHONS,
    r"musllinux_1_\d+_x86_64": PYTHONS,
    r"musllinux_1_\d+_aarch64": PYTHONS,
    r"macosx_\d+_\d+_x86_64": PYTHONS,
    r"macosx_\d+_\d+_arm64": PYTHONS,
    "win_amd64": PYTHONS,
    "win_arm64": PYTHONS[1:],  # as NumPy has them
}
LARGEST = 2 << 20  # bytes of a wheel
NEWEST_GLIBC = (2, 28)


def fail(message: str) -> NoReturn:
    sys.exit(f"not to be released: {message}")


def wheel_name(path: Path) -> tuple[str, str, str]:
    """Version, Python and platform of a wheel."""
    match = re.fullmatch(r"fastrnn-([^-]+)-(cp\d+)-\2-([^-]+)\.whl", path.name)
    if not match:
        fail(f"{path.name} is no wheel of one CPython")
    return match[1], match[2], match[3]


def check_wheel(path: Path) -> None:
    platform = wheel_name(path)[2]
    if path.stat().st_size > LARGEST:
        fail(f"{path.name} has {path.stat().st_size} bytes")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
    extensions = [name for name in names if re.search(r"\.(so|pyd|dylib|dll)(\.|$)", name)]
    if len(extensions) != 1 or not extensions[0].startswith("fastrnn/_core."):
        fail(f"{path.name} has {extensions}, not the one extension")
    foreign = [name for name in names if not re.match(r"fastrnn/|fastrnn-[^/]+\.dist-info/", name)]
    if foreign or "fastrnn/py.typed" not in names or "fastrnn/_core.pyi" not in names:
        fail(f"{path.name} lacks types, or has more than the package: {foreign}")
    if "linux" in platform:
        shown = subprocess.run(
            [sys.executable, "-m", "auditwheel", "show", str(path)], capture_output=True, text=True, check=True
        ).stdout
        consistent = re.search(r'platform tag:\s+"((?:many|musl)linux_(\d+)_(\d+)_\w+)"', shown)
        if not consistent:
            fail(f"{path.name} runs on no other Linux: {shown}")
        elif consistent[1].startswith("many") and (int(consistent[2]), int(consistent[3])) > NEWEST_GLIBC:
            fail(f"{path.name} needs a newer glibc than {NEWEST_GLIBC}: {shown}")
        else:
            print(f"{path.name}: {consistent[1]}, {path.stat().st_size / 1e6:.2f} MB")


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()} - {"PKG-INFO"}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    # What begins with a dot is for those who work on it.
    tracked = {name for name in listed.stdout.splitlines() if not name.startswith(".")}
    if names != tracked:
        fail(f"{path.name} differs from what is in the repository in {sorted(names ^ tracked)}")


def check_complete(wheels: list[Path]) -> None:
    there = [(python, platform) for _, python, platform in map(wheel_name, wheels)]
    for pattern, pythons in PLATFORMS.items():
        for python in pythons:
            found = [p for v, p in there if v == python and any(re.fullmatch(pattern, tag) for tag in p.split("."))]
            if len(found) != 1:
                fail(f"there are {len(found)} wheels of {python} for {pattern}")


def check_tag(tag: str, version: str) -> None:
    if tag != f"v{version}":
        fail(f"the tag is {tag}, and the version {version}")
    heading = re.search(r"^## (\S+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if not heading or heading[1] != version or not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2]):
        fail(f"the first heading of CHANGELOG.md is {heading and heading[0]!r}, not '## {version} (date)'")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    if f"version: {version}\n" not in citation or f"date-released: {heading[2]}\n" not in citation:
        fail("CITATION.cff has another version, or date-released, than CHANGELOG.md")
    if not (ROOT / "tests" / "released" / version).is_dir():
        fail("it has left no files: python tests/formats.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("--tag")
    options = parser.parse_args()
    wheels, sdists = sorted(options.dist.glob("*.whl")), sorted(options.dist.glob("*.tar.gz"))
    rest = sorted(set(options.dist.iterdir()) - {*wheels, *sdists})
    if rest or len(sdists) != 1 or not wheels:
        fail(f"{options.dist} has {len(sdists)} source distributions, {len(wheels)} wheels, and {rest}")
    versions = {wheel_name(path)[0] for path in wheels} | {sdists[0].name[len("fastrnn-") : -len(".tar.gz")]}
    if len(versions) != 1:
        fail(f"there are several versions: {sorted(versions)}")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *wheels, *sdists], check=True)
    check_sdist(sdists[0])
    for path in wheels:
        check_wheel(path)
    if options.complete:
        check_complete(wheels)
    if options.tag is not None:
        check_tag(options.tag, *versions)
    print(f"{len(wheels)} wheels and a source distribution of {versions.pop()} are sound")


if __name__ == "__main__":
    main()
