"""Every block of YAML, JSON and shell in the READMEs and the docs is validated as what it is, or run.

A document is checked by whoever would read it: cfn-lint, `shiftgate policy check`, a JSON Schema, a sample of events/. Shell is
run by bash, with stand-ins for the commands of STAND_INS, which write down what they were given. That must be something that CI
runs, or that ELSEWHERE gives a reason for; the arguments are checked in any case. Nothing is passed over: what is not recognised
fails.

Run from the repository's root after `cargo build`, with .ci/requirements.txt on PATH:  python3 .ci/blocks.py [target/debug/shiftgate]
"""

import collections
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import yaml
from cfnlint.api import ManualArgs, lint

import arguments
import cfn
from examples import Checker

PAGES = [
    *(Path(name) for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md")),
    *sorted(Path("docs").rglob("*.md")),
    *sorted(Path("examples").glob("*/README.md")),
]
# What somebody sees, not what somebody gives.
SHOWN = {"text"}
RUN = [Path(".ci/run"), Path(".ci/cargo-lambda.sh")]

# What cannot be run here, and why. Its arguments are checked all the same.
ELSEWHERE = {
    r"aws |sam (deploy|publish)|gh |docker |bash release.sh ": "needs an account",
    r"bash .ci/package ": "needs a release; .ci/stack.py runs it with pretended zips",
    r"cargo run -- try --html FILE.html --open$": "opens a browser",
    r"cargo run -- (backtest --deployment-group|verdicts|explain|doctor|init|watch) ": "needs an account",
    r"sam build$": "for arm64, whose standard library not every toolchain has; CI builds for x86_64",
    r"rustup target add aarch64-unknown-linux-gnu$": "changes the toolchain",
    r"git (clone |pull$)|sha256sum |bash .ci/release ": "needs a published release",
    r"cargo \+nightly fuzz |cargo mutants ": "needs another toolchain",
    r"bash bench/peers/install$": "needs Node",
    r"cargo deny check advisories$": "what is found out tomorrow must not turn an old commit red",
    r"cargo run --release -- bench (judge|placebo|fleet|functions)": "a release build takes longer than the rest; CI runs these without --release",
    r"cargo run (--release )?-- (bench soak|bench cost --count|run .*--doubts|run .*--way all|faults --matrix --random 10000)": "takes too long",
    r"cargo run -- bench fleet --rollouts 1000 --simulate$": "takes too long without --release",
    r"jq |zip ": "not everybody has it",
}
STAND_INS = ["aws", "bash", "cargo", "docker", "gh", "git", "jq", "rustup", "sam", "sha256sum", "shiftgate", "zip"]
# What else a block may use; it has no effect beyond the folder in which blocks are run.
TOOLS = ["find", "sed", "tr", "xargs"]
STAND_IN = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
with open({calls!r}, "a") as file:
    print(json.dumps([int(os.environ["AT"]), os.getcwd(), name, *sys.argv[1:]]), file=file)
ours = sys.argv[1:] if name == "shiftgate" else sys.argv[3:] if sys.argv[1:3] == ["run", "--"] else []
if "-" in sys.argv:
    sys.stdin.read()
if ours[:1] == ["policy"]:
    os.execv({cli!r}, ["shiftgate", *ours])
if name == "git":
    os.makedirs(sys.argv[-1])
if name == "jq":
    print("{{}}")
if name == "aws" and "text" in sys.argv:
    print("answer")
"""

# A part of a document, known by its first key; what has to stand above it, and how far it is indented there.
PARTS = {
    "DeploymentConfiguration": (
        "Resources:\n  Service:\n    Type: AWS::ECS::Service\n    Properties:\n      TaskDefinition: orders:42\n", 6,
    ),
    "DeploymentPreference": (
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Function:\n    Type: AWS::Serverless::Function\n    Properties:\n"
        "      Runtime: provided.al2023\n      Handler: bootstrap\n      CodeUri: s3://code/orders.zip\n      AutoPublishAlias: live\n", 6,
    ),
    "Statement": ("Resources:\n  Policy:\n    Type: AWS::IAM::ManagedPolicy\n    Properties:\n      PolicyDocument:\n", 8),
    "headers": ("smoke:\n  checks:\n    - name: part\n      get: /\n", 6),
}  # fmt: skip

# What goes in and out of the functions: a key that tells it, a sample, and what a sample does not have.
PAYLOADS = {
    "LifecycleEventHookExecutionId": ("events/before-install.json", set()),
    "lifecycleStage": ("events/ecs-production-traffic-shift.json", {"hookDetails"}),
    "duty": ("events/watch.json", {"next"}),
    "hookStatus": (None, {"hookStatus", "callBackDelay", "reason", "hookDetails"}),
    "permissions_for_deployment": (None, {"permissions_for_deployment"}),
}
POLICY_KEYS = set(json.loads(Path("docs/policy.schema.json").read_text())["properties"]) - {"version"}


# ---- blocks


@dataclass
class Block:
    path: Path
    line: int  # of its first line
    language: str
    text: str

    def at(self, line: int = 1) -> str:
        return f"{self.path}:{self.line + max(line, 1) - 1}"


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, also those in lists, without their indentation."""
    found, fence, lines = [], None, []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        mark = re.match(r" *(```+|~~~+) *([^`]*)$", line)
        if fence is None and mark:
            fence, language, begin, lines = mark[1], mark[2].strip(), number + 1, []
        elif fence and mark and mark[1].startswith(fence) and not mark[2]:
            found.append(Block(path, begin, language, textwrap.dedent("\n".join(lines) + "\n")))
            fence = None
        elif fence:
            lines.append(line)
    if fence:
        raise SystemExit(f"{path}:{begin - 1}: this block is never closed")
    return found


# ---- documents


class Documents:
    """The checks of YAML and JSON. Each gives back what is wrong, with the line in the block."""

    def __init__(self, cli: Path):
        self.cli = cli
        self.hooks = Checker(Path("template.yaml"))
        self.latest: dict = {}  # the latest template of the page

    def kind(self, value):
        """What a document is, and its check."""
        keys = list(value) if isinstance(value, dict) else []
        part = next((key for key in keys if key in PARTS), None)
        if part:
            return f"part of a document ({part})", self.part
        if isinstance(value.get("Resources") if keys else None, dict):
            return "template", self.template
        if keys and all(isinstance(each, dict) and "::" in str(each.get("Type")) for each in value.values()):
            return "resource", self.resources
        if "Hooks" in keys:
            return "AppSpec", self.appspec
        if "jobs" in keys:
            return "workflow", self.workflow
        if "about" in keys:
            return "scenario", self.scenario
        if "detail-type" in keys:
            return "event", self.event
        if "findings" in keys:
            return "evidence", lambda text, value: schema("evidence", value)
        if "period_seconds" in keys:
            return "recording", lambda text, value: schema("recording", value)
        if any(key in PAYLOADS for key in keys):
            return "payload", self.payload
        if POLICY_KEYS.intersection(keys):
            return "policy", self.policy
        return None, None

    def part(self, text: str, value: dict):
        head, indent = next(PARTS[key] for key in value if key in PARTS)
        whole = head + textwrap.indent(text, " " * indent)
        check = self.policy if head.startswith("smoke") else self.template
        for line, what in check(whole, cfn.parse(whole)):
            yield line - head.count("\n"), what

    def template(self, text: str, value: dict):
        self.latest = value
        yield from linted(text)
        yield from self.named(self.hooks.template, value)
        for keys, inner in cfn.nodes(value):
            if keys[-1:] == ("EventPattern",):
                yield from ((1, what) for what in no_lists(inner))

    def resources(self, text: str, value: dict):
        """Resources alone stand for those of the same name in the template above them."""
        whole = {**self.latest, "Resources": {**self.latest.get("Resources", {}), **value}}
        # A parameter of what is replaced may be left over.
        yield from ((1, what) for _, what in linted(yaml.safe_dump(whole, sort_keys=False)) if not what.startswith("W2001"))

    def named(self, check, value):
        """Hooks and exports that template.yaml does not make."""
        before = len(self.hooks.errors)
        check("", value)
        for error in self.hooks.errors[before:]:
            yield 1, error.removeprefix(": ")

    def appspec(self, text: str, value: dict):
        if value.get("version", 0.0) != 0.0 or value.keys() - {"version", "Resources", "Hooks"}:
            yield 1, "an AppSpec has version 0.0, Resources and Hooks, and nothing else"
        for resource in value.get("Resources", []):
            for name, each in resource.items():
                if each.get("Type") != "AWS::ECS::Service" or "TaskDefinition" not in each.get("Properties", {}):
                    yield 1, f"{name}: no AWS::ECS::Service with a TaskDefinition"
        yield from self.named(self.hooks.appspec, value)

    def policy(self, text: str, value: dict):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([self.cli, "policy", "check", file.name], capture_output=True, text=True, timeout=60)
        for line in (done.stdout + done.stderr).splitlines() if done.returncode else []:
            found = re.search(r"line (\d+)", line)
            yield int(found[1]) if found else 1, re.sub(r"^line \d+, ", "", line.removeprefix(f"{file.name}: "))

    def scenario(self, text: str, value: dict):
        """CI plays the files of scenarios/, so a scenario in a page must be one of them."""
        if not any(value == cfn.load(path) for path in Path("scenarios").glob("*.yaml")):
            yield 1, "no file of scenarios/ says the same: copy it anew"

    def workflow(self, text: str, value: dict):
        """A workflow of GitHub; its commands are checked as those of shell are."""
        if not {"on", True} & value.keys():  # YAML takes `on` for a boolean
            yield 1, "a workflow says `on` what it runs"
        for name, job in value["jobs"].items():
            steps = job.get("steps", [])
            if "runs-on" not in job or not steps or any(len({"run", "uses"} & step.keys()) != 1 for step in steps):
                yield 1, f"{name}: a job has runs-on and steps, each of which has either run or uses"

    def event(self, text: str, value: dict):
        """A pattern for EventBridge where all values are lists; otherwise an event, as a sample is."""
        if isinstance(value["detail-type"], list):
            head = "Resources:\n  Rule:\n    Type: AWS::Events::Rule\n    Properties:\n      EventPattern:\n"
            whole = head + textwrap.indent(text, " " * 8)
            yield from ((line - head.count("\n"), what) for line, what in self.template(whole, cfn.parse(whole)))
            return
        files = [*Path("events").glob("*.json"), Path("docs/verdict-event.json")]
        samples = [json.loads(path.read_text()) for path in files]
        same = [each for each in samples if each.get("detail-type") == value["detail-type"]]
        if not any(each.keys() >= value.keys() and each["source"] == value["source"] for each in same):
            yield 1, f"neither events/ nor docs/verdict-event.json has a sample of {value['detail-type']} with these keys"
        if value["source"] == "shiftgate":
            yield from schema("verdict-event", value["detail"])

    def payload(self, text: str, value: dict):
        sample, more = next(PAYLOADS[key] for key in value if key in PAYLOADS)
        known = json.loads(Path(sample).read_text()) if sample else {}
        details = value.get("executionDetails", {}).keys() - known.get("executionDetails", {}).keys()
        for key in (value.keys() - known.keys() - more) | details:
            yield 1, f"{key} is not in {sample or 'PAYLOADS'}"
        policy = value.get("hookDetails", {}).get("policy")
        yield from ((1, what) for _, what in self.policy(policy, {})) if policy else ()


def no_lists(pattern: dict, name="EventPattern"):
    """Keys of a pattern for EventBridge without a list of what they may be."""
    for key, value in pattern.items():
        if isinstance(value, dict):
            yield from no_lists(value, f"{name}.{key}")
        elif not isinstance(value, list):
            yield f"{name}.{key} must be a list of values"
        elif key == "$or":
            for each in value:
                yield from no_lists(each, f"{name}.$or")


def linted(template: str):
    """What cfn-lint says of a template."""
    for match in lint(template, config=ManualArgs(regions=["eu-west-1"])):
        yield match.linenumber, f"{match.rule.id} {match.message}"


def schema(name: str, value):
    """What the JSON Schema of that name in docs/ does not allow."""
    validator = jsonschema.Draft202012Validator(json.loads(Path(f"docs/{name}.schema.json").read_text()))
    for error in validator.iter_errors(value):
        yield 1, f"{error.json_path}: {error.message}"


# ---- shell


def normal(command: str) -> str:
    """One spelling for a command: CI may choose one scenario for all, loop over the functions and name other files."""
    command = command.replace('"', "").replace("'", "")
    command = re.sub(r"(scenarios/\S+\.yaml ?)+", "SCENARIOS ", command)
    command = re.sub(r"\$function|\$sample|\bbefore-allow-traffic\b", "FUNCTION", command)
    command = re.sub(r"\$deployment\b|arn:aws:ecs:\S+/SampleDeployment00001", "DEPLOYMENT", command)
    command = re.sub(r"\S+(\.html|\.log)\b", r"FILE\1", command)
    command = re.sub(r"--(recordings|beside) \S+", r"--\1 FILE", command)
    return " ".join(command.split())


class Shell:
    """Runs blocks of shell, those of a page in the same folder, and checks the commands in them."""

    def __init__(self, cli: Path):
        self.cli = cli
        self.ours = arguments.Ours(cli)
        self.run = [normal(line) for path in RUN for line in path.read_text().replace("\\\n", " ").splitlines()]
        self.counts = collections.Counter()
        self.elsewhere: set[str] = set()

    def folder(self, page: Path, folder: Path) -> None:
        """A folder with what a reader of a page has: the repository or an example, and policies; and the stand-ins."""
        home, names = Path(), ["events", "recordings", "scenarios", "shared", "template.yaml"]
        if page.parts[0] == "examples":
            home, names = page.parent, os.listdir(page.parent)
        for name in names:
            (folder / name).symlink_to((home / name).absolute())
        for name in ("bin", "target", "policies/shop"):
            (folder / name).mkdir(parents=True)
        for name in ("policy.yaml", "shiftgate.yaml", "policies/shop/orders.yaml"):
            (folder / name).write_text("version: 1\nmode: observe\n")
        for name in ("revision.json", "release.zip"):
            (folder / name).write_text("{}")
        for name in TOOLS:
            (folder / "bin" / name).symlink_to(shutil.which(name))
        for name in STAND_INS:
            stand_in = STAND_IN.format(python=sys.executable, calls=str(folder / "calls"), cli=str(self.cli))
            (folder / "bin" / name).write_text(stand_in)
            (folder / "bin" / name).chmod(0o755)

    def check(self, block: Block, folder: Path):
        """Runs a block, and gives back what is wrong with it or its commands."""
        calls = folder / "calls"
        calls.write_text("")
        # Tells the stand-ins the line on which they were called.
        script = "trap 'export AT=$((LINENO - 1))' DEBUG\n" + block.text
        environment = {"PATH": str(folder / "bin"), "HOME": str(folder), "GITHUB_REPOSITORY": "shop/orders"}
        command = [shutil.which("bash"), "-T", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            line = re.search(r"bash: line (\d+)", done.stderr)
            yield int(line[1]) - 1 if line else 1, f"fails: {done.stderr.strip() or done.stdout.strip()}"
        made = [json.loads(line) for line in calls.read_text().splitlines()]
        if not made and not done.returncode:
            yield 1, "calls none of the commands that are checked here: name them in STAND_INS"
        for line, where, *call in made:
            yield from ((line, what) for what in self.call(call, Path(where)))

    def call(self, call: list[str], where: Path):
        """What is wrong with one command."""
        self.counts[call[0]] += 1
        command = normal(" ".join(call))
        if call[0] == "shiftgate":
            command = command.replace("shiftgate", "cargo run --", 1)
        reason = next((reason for pattern, reason in ELSEWHERE.items() if re.match(pattern, command)), None)
        if reason:
            self.elsewhere.add(command)
        elif re.match("cargo run -- policy ", command):
            return  # has been run, by the stand-in
        elif not any(re.search(rf"(^|\s|\(){re.escape(command)}($|[\s)])", line) for line in self.run):
            yield f"CI does not run `{shlex.join(call)}`: add it to .ci/run, or say in ELSEWHERE why not"
        yield from self.ours.wrong(call) or arguments.wrong(call, where)

    def inline(self, path: Path):
        """Our own commands in the text of a page, whose arguments must exist."""
        text = re.sub(r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), path.read_text(), flags=re.DOTALL | re.MULTILINE)
        for found in re.finditer(r"`((?:cargo run (?:--release )?-- |shiftgate )[^`>|]+)", text):
            self.counts["in text"] += 1
            for what in self.ours.wrong(shlex.split(found[1])):
                yield text[: found.start()].count("\n") + 1, what


# ---- both


def parse(block: Block):
    if block.language == "json":
        return json.loads(block.text)
    return cfn.parse(block.text)


def scripts(block: Block, value: dict) -> list[Block]:
    """What a workflow runs."""
    steps = [step for job in value["jobs"].values() for step in job.get("steps", [])]
    return [Block(block.path, block.line, "sh", step["run"]) for step in steps if "run" in step]


class Book:
    """All pages, and how many blocks of which kind they have."""

    def __init__(self, cli: Path):
        self.documents = Documents(cli)
        self.shell = Shell(cli)
        self.counts = collections.Counter()

    def block(self, block: Block, folder: Path):
        """What is wrong with a block, each with its line in the block."""
        if block.language in SHOWN:
            self.counts[block.language] += 1
        elif block.language in ("sh", "bash"):
            self.counts["shell"] += 1
            yield from self.shell.check(block, folder)
        elif block.language in ("yaml", "json"):
            try:
                value = parse(block)
            except (ValueError, yaml.YAMLError) as error:
                yield 1, f"is no {block.language}: {error}"
                return
            kind, check = self.documents.kind(value)
            if kind is None:
                yield 1, "is of no kind that is known: mend its keys, or teach .ci/blocks.py its kind (Documents.kind) and how to check it"
                return
            self.counts[kind] += 1
            try:
                yield from check(block.text, value)
            except (AttributeError, KeyError, TypeError) as error:
                yield 1, f"has not the form of its kind, {kind}: {error!r}"
                return
            if kind == "policy":
                (folder / "policy.yaml").write_text(block.text)
            if kind == "workflow":
                for script in scripts(block, value):
                    yield from ((1, what) for _, what in self.shell.check(script, folder))
        else:
            yield 1, f"its language is {block.language or 'not given'}: nobody checks that; write yaml, json, sh, or text for what is only shown"

    def page(self, path: Path) -> list[str]:
        """What is wrong with a page."""
        with tempfile.TemporaryDirectory() as folder:
            self.shell.folder(path, Path(folder))
            self.documents.latest = {}
            wrong = [f"{block.at(line)}: {what}" for block in blocks(path) for line, what in self.block(block, Path(folder))]
        return wrong + [f"{path}:{line}: {what}" for line, what in self.shell.inline(path)]


def main() -> int:
    # Nobody's account and nobody's settings.
    os.environ |= {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody"}
    cli = Path(sys.argv[1] if len(sys.argv) > 1 else "target/debug/shiftgate").absolute()
    if not cli.exists():
        raise SystemExit(f"there is no {cli}: cargo build")
    book = Book(cli)
    wrong = [each for path in PAGES for each in book.page(path)]
    for each in dict.fromkeys(wrong):
        print(each)
    print(", ".join(f"{number} {kind}" for kind, number in book.counts.most_common()))
    print("commands:", ", ".join(f"{number} {name}" for name, number in book.shell.counts.most_common()))
    print(f"{len(PAGES)} pages, {len(book.shell.elsewhere)} different commands of which only the arguments are checked, {len(wrong)} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
