"""Every command that the README gives is one that CI runs, so that the README cannot promise what does not work."""

import re
import sys
from pathlib import Path

# What needs an AWS account, another toolchain or a published release, and so cannot be run here. The benchmarks run
# without --release: a release build of all that the CLI needs takes longer than the rest.
ELSEWHERE = re.compile(
    r"sam deploy|sam build$|rustup |aws |cargo run --release -- bench |cargo run -- backtest --deployment-group "
    r"|cargo run -- (verdicts|explain|doctor|init|watch) "
)
# What somebody who follows the README types. Everything else in its sh blocks is not ours.
OURS = re.compile(r"cargo |sam |rustup |aws ")


def commands(readme: str) -> list[str]:
    """The commands in the blocks of shell, each on one line and without comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", readme, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.sub(r"\s#.*", "", line).split("&&")]
    return [normal(part) for part in parts if OURS.match(part.strip())]


def normal(command: str) -> str:
    """One spelling for a command: CI may choose one scenario for all, and loops over the functions and their samples."""
    command = re.sub(r"scenarios/\S+\.yaml", "SCENARIOS", command)
    command = re.sub(r"\$function|\$sample|\bbefore-allow-traffic\b", "FUNCTION", command)
    return " ".join(command.replace('"', "").split())


def main() -> int:
    scripts = [Path(".ci/run"), Path(".ci/cargo-lambda.sh")]
    run = [normal(line) for path in scripts for line in path.read_text().replace("\\\n", " ").splitlines()]
    wanted = commands(Path("README.md").read_text())
    if not wanted:
        print("no commands found in README.md: has the form of its blocks changed?")
        return 1
    missing = [
        command
        for command in wanted
        if not ELSEWHERE.match(command)
        and not any(re.search(rf"(^|\s|\(){re.escape(command)}($|[\s)])", line) for line in run)
    ]
    for command in missing:
        print(f"README.md says `{command}`, which CI does not run: add it to .ci/run, or name it in .ci/readme.py")
    print(f"{len(wanted)} commands in README.md, {len(missing)} of them not run")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
