"""A zip for Lambda that is the same whenever and wherever it is made: `zip.py BOOTSTRAP ZIP`."""

import sys
import zipfile
from pathlib import Path

# The earliest time that a zip can hold. Lambda does not look at it.
EPOCH = (1980, 1, 1, 0, 0, 0)
UNIX = 3
REGULAR_FILE_THAT_ALL_MAY_RUN = 0o100755


def main() -> None:
    bootstrap, target = map(Path, sys.argv[1:])
    entry = zipfile.ZipInfo("bootstrap", EPOCH)
    entry.create_system = UNIX
    entry.external_attr = REGULAR_FILE_THAT_ALL_MAY_RUN << 16
    with zipfile.ZipFile(target, "w") as file:
        file.writestr(entry, bootstrap.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


if __name__ == "__main__":
    main()
