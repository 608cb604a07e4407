"""Writes template.yaml as it belongs to a release: with the zips that lie beside it instead of code to build.

python3 .ci/release_template.py FOLDER arm64|x86_64   writes FOLDER/shiftgate-ARCHITECTURE.yaml and FOLDER/watch.asl.json
"""

import re
import shutil
import sys
from pathlib import Path

BINARY = re.compile(r"(?m)^    Metadata:\n      BuildMethod: rust-cargolambda\n      BuildProperties:\n        Binary: ([\w-]+)\n    Properties:\n")
DEFINITION = "statemachine/watch.asl.json"


def of_release(template: str, architecture: str) -> str:
    """The template for one architecture, with nothing left to build."""
    text, functions = BINARY.subn(rf"    Properties:\n      CodeUri: \1-{architecture}.zip\n", template)
    expected = sum(1 for _ in Path("functions").iterdir())
    if functions != expected:
        sys.exit(f"{functions} functions of template.yaml have the form that is looked for, of {expected}")
    # The zips are of this architecture and no other.
    for old, new in {
        "    Default: arm64\n    AllowedValues: [arm64, x86_64]\n": f"    Default: {architecture}\n    AllowedValues: [{architecture}]\n",
        "    CodeUri: .\n": "",
        f"DefinitionUri: {DEFINITION}": f"DefinitionUri: {Path(DEFINITION).name}",
    }.items():
        if text.count(old) != 1:
            sys.exit(f"template.yaml has {text.count(old)} times what must be replaced once: {old!r}")
        text = text.replace(old, new)
    return text


def main() -> None:
    folder, architecture = Path(sys.argv[1]), sys.argv[2]
    text = of_release(Path("template.yaml").read_text(), architecture)
    (folder / f"shiftgate-{architecture}.yaml").write_text(text)
    for file in (DEFINITION, "README.md", "LICENSE-MIT"):
        shutil.copy(file, folder)


if __name__ == "__main__":
    main()
