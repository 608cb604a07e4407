"""Counts that are the same on every machine, compared with those that are checked in as counts.json.

`counts.py [--update] [--calls FILE]` compares, and fails on what has become worse:

- the instructions of one look of the judge, by callgrind: over so much more than the tolerance;
- the deflated size of each function that `sam build` has left, with the settings that CI builds it with: the same;
- the calls of AWS that each stage makes, from a file {"stage": {"action": count}}: exactly.

`--update` writes what was counted to counts.json. `counts.py --release FOLDER` holds the zips of a release to the size that
every one of them must stay below.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).parent.parent
LIMITS = Path(__file__).with_name("counts.json")
# Of each zip of a release, in bytes: the largest has 3.84 million (docs/measured/functions.md).
MOST = 4_000_000
# Minutes of the window and requests a minute. The last has so few that the judge also tells what it could have seen.
LOOKS = {"15 minutes": ("15", "6000"), "48 hours": ("2880", "6000"), "15 minutes, few requests": ("15", "60")}


def valgrind() -> str | None:
    """Valgrind, installed if that needs nobody; None without it."""
    for install in [[], ["apt-get"], ["sudo", "-n", "apt-get"]]:
        if install and shutil.which(install[0]):
            subprocess.run([*install, "install", "-y", "-qq", "valgrind"], capture_output=True, check=False)
        if found := shutil.which("valgrind"):
            return found
    return None


def instructions() -> dict[str, int]:
    tool = valgrind()
    if tool is None:
        print("!!! There is no valgrind: the instructions of a look were NOT compared.", file=sys.stderr)
        return {}
    # As CI builds everything: incremental builds are cut up otherwise, and come to other counts.
    environment = {**os.environ, "CARGO_INCREMENTAL": "0"}
    build = ["cargo", "build", "--quiet", "--workspace", "--example", "look"]
    subprocess.run(build, cwd=PROJECT, env=environment, check=True)
    look = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")) / "debug/examples/look"
    with tempfile.NamedTemporaryFile() as out:
        callgrind = [tool, "--tool=callgrind", f"--callgrind-out-file={out.name}", look]
        return {name: counted([*callgrind, *arguments]) for name, arguments in LOOKS.items()}


def counted(command: list[str | Path]) -> int:
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"Collected : (\d+)", told)
    if found is None:
        sys.exit(f"callgrind tells no count:\n{told}")
    return int(found[1])


def deflated() -> dict[str, int]:
    built = sorted((PROJECT / ".aws-sam/build").glob("*Function/bootstrap"))
    if not built:
        print("!!! Nothing was built by `sam build`: sizes were NOT compared.", file=sys.stderr)
    with ThreadPoolExecutor() as all_at_once:
        sizes = all_at_once.map(lambda binary: len(zlib.compress(binary.read_bytes())), built)
        return dict(zip((binary.parent.name for binary in built), sizes))


def compared(kind: str, limits: dict[str, int], counts: dict[str, int], tolerance: float) -> list[str]:
    """What has become worse."""
    faults = [f"{kind}, {name}: was not counted" for name in limits.keys() - counts.keys()]
    for name, count in counts.items():
        limit = limits.get(name)
        if limit is None:
            faults.append(f"{kind}, {name}: {count:,}, and counts.json has no limit; write it with --update")
            continue
        change = count / limit - 1
        print(f"{kind}, {name}: {count:,} ({change:+.1%} of {limit:,})")
        if change > tolerance:
            faults.append(f"{kind}, {name}: {count:,} is {change:.1%} more than {limit:,}; {tolerance:.0%} are allowed")
        elif change < -tolerance:
            print("  much less: write it to counts.json with --update, so that it stays")
    return faults


def compared_calls(limits: dict[str, dict[str, int]], calls: dict[str, dict[str, int]]) -> list[str]:
    """What differs, call by call."""
    faults = []
    for stage in sorted(limits.keys() | calls.keys()):
        before, now = limits.get(stage, {}), calls.get(stage, {})
        for action in sorted(before.keys() | now.keys()):
            limit, count = before.get(action, 0), now.get(action, 0)
            if count > limit:
                faults.append(f"{stage} calls {action} {count} times, and {limit} are allowed")
            elif count < limit:
                faults.append(f"{stage} calls {action} {count} times and no longer {limit}: write it with --update")
    return faults


def release(folder: Path) -> list[str]:
    zips = sorted(folder.glob("*.zip"))
    if not zips:
        return [f"there is no zip in {folder}"]
    sizes = {path.name: path.stat().st_size for path in zips}
    for name, size in sizes.items():
        print(f"{name}: {size:,} bytes")
    return [f"{name}: {size:,} bytes, and {MOST:,} are allowed" for name, size in sizes.items() if size >= MOST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--calls", type=Path, metavar="FILE")
    parser.add_argument("--release", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.release:
        faults = release(options.release)
    else:
        limits = json.loads(LIMITS.read_text())
        counts = {"instructions": instructions(), "deflated_bytes": deflated()}
        counts = {kind: of_kind for kind, of_kind in counts.items() if of_kind}
        if options.calls:
            counts["calls"] = json.loads(options.calls.read_text())
        if options.update:
            LIMITS.write_text(json.dumps({**limits, **counts}, indent=2) + "\n")
            return
        faults = []
        for kind, of_kind in counts.items():
            if kind == "calls":
                faults += compared_calls(limits[kind], of_kind)
            else:
                faults += compared(kind, limits[kind], of_kind, limits["tolerance"])
    if faults:
        sys.exit("\n".join(["", *faults]))


if __name__ == "__main__":
    main()
