"""Whether the arguments of a command exist, without running it: for .ci/blocks.py. Needs awscli and aws-sam-cli."""

import contextlib
import io
import itertools
import os
import re
import subprocess
from pathlib import Path

import jmespath
from awscli.clidriver import CLIOperationCaller, create_clidriver
from awscli.customizations.waiters import WaiterCaller
from botocore.httpsession import URLLib3Session
from botocore.utils import ArgumentGenerator
from botocore.validate import ParamValidator

import cfn

# PyPI has version 1 of the AWS CLI. What only version 2 has, with the options that may be given.
VERSION_2 = {
    ("logs", "tail"): {"--follow", "--filter-pattern", "--since", "--format"},
    ("configure", "export-credentials"): {"--format", "--profile"},
}
VERSION_2_OPTIONS = {"--cli-binary-format": {"base64", "raw-in-base64-out"}}


class Ours:
    """Our own commands, parsed by the program itself."""

    def __init__(self, cli: Path):
        self.cli = cli
        self.seen: dict[tuple, list[str]] = {}

    def wrong(self, call: list[str]) -> list[str]:
        """What is wrong with a call; nothing if it is none of ours."""
        if call[0] == "cargo" and "--" in call and call[1] == "run":
            call = call[call.index("--") :]
        elif call[0] != "shiftgate":
            return []
        key = tuple(call[1:])
        if key not in self.seen:
            # Help is shown once all before it has been parsed.
            done = subprocess.run([self.cli, *key, "--help"], capture_output=True, text=True, timeout=60)
            self.seen[key] = [f"`{' '.join(key)}`: {done.stderr.splitlines()[0]}"] if done.returncode else []
        return self.seen[key]


# ---- aws


class Refused(Exception):
    """Arguments that AWS would not take."""


def reached(*_):
    """In place of a call to AWS by a command that is no operation, such as `cloudformation deploy`: its arguments are good."""
    raise SystemExit(0)


def unknown_values(value, shape, name=""):
    """Values that an enumeration does not have, which botocore leaves to AWS."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for key, inner in value.items():
            # A field that does not exist is told by botocore.
            if key in shape.members:
                yield from unknown_values(inner, shape.members[key], f"{name}.{key}")
    elif shape.type_name == "list":
        for inner in value:
            yield from unknown_values(inner, shape.member, name)
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield f"{name[1:]} is {value}, none of {', '.join(shape.enum)}"


def finds_nothing(query: str, shape) -> bool:
    """Whether a JMESPath names what the answer does not have: in a sample with every field, that becomes null."""
    answer = jmespath.search(query, ArgumentGenerator(use_member_names=True).generate_skeleton(shape))
    return any(value is None for _, value in cfn.nodes(answer))


class Aws:
    """The AWS CLI, up to where it would call AWS."""

    def __init__(self):
        self.driver = create_clidriver()
        for caller in (CLIOperationCaller, WaiterCaller):
            caller.invoke = self.invoke
        URLLib3Session.send = reached
        self.seen: dict[tuple, list[str]] = {}

    def invoke(self, service, operation, parameters, options):
        model = self.driver.session.get_service_model(service).operation_model(operation)
        report = ParamValidator().validate(parameters, model.input_shape)
        wrong = list(unknown_values(parameters, model.input_shape))
        wrong += [report.generate_report()] if report.has_errors() else []
        if options.query and finds_nothing(options.query.expression, model.output_shape):
            wrong += [f"--query names what {operation} does not answer with"]
        if wrong:
            raise Refused("; ".join(wrong))
        return 0

    def wrong(self, call: list[str]) -> list[str]:
        key = tuple(call)
        if key not in self.seen:
            self.seen[key] = self.parse(call[1:])
        return self.seen[key]

    def parse(self, call: list[str]) -> list[str]:
        for option, values in VERSION_2_OPTIONS.items():
            if option in call and call[call.index(option) + 1] in values:
                del call[call.index(option) : call.index(option) + 2]
        if tuple(call[:2]) in VERSION_2:
            unknown = [each for each in call if each.startswith("--") and each not in VERSION_2[tuple(call[:2])]]
            return [f"aws {' '.join(call[:2])} has no option {each}" for each in unknown]
        told = io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            try:
                code = self.driver.main(call)
            except SystemExit as exit:
                code = exit.code
        if not code:
            return []
        # Without the usage before it and the screen of valid choices behind it.
        what = re.sub(r", valid choices are:.*", "", told.getvalue().split(" help\n")[-1], flags=re.DOTALL)
        return [f"aws {' '.join(call[:2])}: {' '.join(what.split()).removeprefix('blocks.py: error: ')}"]


# ---- sam


def sam(call: list[str]):
    """Options of SAM and sections of samconfig.toml that do not exist."""
    if call[1] not in SAM_OPTIONS:
        done = subprocess.run(["sam", call[1], "--help"], capture_output=True, text=True, timeout=60)
        SAM_OPTIONS[call[1]] = set(re.findall(r"--[a-z][a-z0-9-]+", done.stdout)) if done.returncode == 0 else set()
    for option in call[2:]:
        if option.startswith("--") and not {option, option.replace("--no-", "--", 1)} & SAM_OPTIONS[call[1]]:
            yield f"sam {call[1]} has no option {option}"
    for name in values(call, "--config-env"):
        if f"\n[{name}." not in Path("samconfig.toml").read_text():
            yield f"samconfig.toml has no {name}"


def values(call: list[str], option: str) -> list[str]:
    """The values of an option that takes several."""
    after = call[call.index(option) + 1 :] if option in call else []
    return list(itertools.takewhile(lambda word: not word.startswith("--"), after))


def parameters(call: list[str], where: Path):
    """Parameters that neither the template of this folder nor Shiftgate's own has."""
    templates = [cfn.load(path.resolve()) for path in (where / "template.yaml", Path("template.yaml"))]
    for value in values(call, "--parameter-overrides"):
        if not any(value.split("=")[0] in each["Parameters"] for each in templates):
            yield f"template.yaml has no parameter {value.split('=')[0]}"


SAM_OPTIONS: dict[str, set[str]] = {}
AWS = Aws()


def wrong(call: list[str], where: Path) -> list[str]:
    """What is wrong with a call of aws or sam, in the folder where it was made; nothing if it is another."""
    if call[0] == "sam":
        return [*sam(call), *parameters(call, where)]
    if call[0] != "aws":
        return []
    here = os.getcwd()
    os.chdir(where)  # file://policy.yaml is read from there
    try:
        found = AWS.wrong(call)
    finally:
        os.chdir(here)
    return [*found, *(parameters(call, where) if call[1:3] == ["cloudformation", "deploy"] else ())]
