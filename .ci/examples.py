"""Every hook that an example names is one that template.yaml makes, and every template of the examples is valid.

Run from the repository's root, with sam and cfn-lint on PATH:  python3 .ci/examples.py [template.yaml]
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from cfn import load, nodes, text

EXAMPLES = Path("examples")
# Where hooks are named for people to copy. .ci/blocks.py looks closer at the blocks of these pages.
DOCUMENTS = [Path("README.md"), *sorted(Path("docs").rglob("*.md"))]

# Which function answers for which event.
STAGE_OF_EVENT = {
    "BeforeInstall": "before-install",
    "AfterInstall": "after-install",
    "AfterAllowTestTraffic": "after-allow-test-traffic",
    "BeforeAllowTraffic": "before-allow-traffic",
    "AfterAllowTraffic": "after-allow-traffic",
    "PreTraffic": "before-allow-traffic",
    "PostTraffic": "after-allow-traffic",
}
EXPORT_OF_PROPERTY = {"HookTargetArn": "EcsLifecycleHook", "RoleArn": "EcsHookRole"}
# What starts the watch of a rolling update, which has no hooks.
WATCH_TAG = {"Key": "shiftgate", "Value": "watch"}

# A name of one of our functions, wherever it stands in a text. A placeholder may stand for the stack's name.
FUNCTION_NAME = re.compile(r"CodeDeployHook_[\w${}.<>:-]+[\w>}]|shiftgate-[\w${}.<>:-]+-ecs-lifecycle")
PLACEHOLDER = re.compile(r"<[\w-]+>|\$\{?\w+\}?")
STACK = "shiftgate"


# ---- templates


def functions(template, stack: str) -> set[str]:
    made = template["Resources"].values()
    names = {"AWS::StackName": stack}
    return {
        text(each["Properties"]["FunctionName"], names)
        for each in made
        if each["Type"] == "AWS::Serverless::Function" and "FunctionName" in each["Properties"]
    }


def exports(template, stack: str) -> set[str]:
    outputs = template.get("Outputs", {}).values()
    return {text(each["Export"]["Name"], {"AWS::StackName": stack}) for each in outputs if "Export" in each}


def defaults(template) -> dict[str, str]:
    parameters = template.get("Parameters", {}).items()
    return {name: str(each["Default"]) for name, each in parameters if "Default" in each}


# ---- what the examples name


class Checker:
    def __init__(self, template: Path):
        ours = load(template)
        self.functions = functions(ours, STACK)
        self.of_the_lab = functions(ours, "lab")
        self.exports = exports(ours, STACK)
        for path in EXAMPLES.glob("*/template.yaml"):
            # One example may import what another exports: the default of its parameter is that example's folder.
            self.exports |= exports(load(path), path.parent.name)
        self.errors: list[str] = []
        self.named = 0

    def error(self, where, what: str) -> None:
        self.errors.append(f"{where}: {what}")

    def event(self, where, event: str, value, names: dict[str, str]) -> None:
        """A hook of an AppSpec or of a DeploymentPreference: an event, and the function for that event."""
        self.named += 1
        name = text(value, names)
        stage = STAGE_OF_EVENT.get(event)
        if stage is None:
            self.error(where, f"CodeDeploy has no event {event}")
        elif name not in self.functions:
            self.error(where, f"{event} names {name or value}, which template.yaml does not make")
        elif name != f"CodeDeployHook_{STACK}_{stage}":
            self.error(where, f"{event} names {name}, which answers for another event")

    def imported(self, where, name: str) -> None:
        self.named += 1
        if name not in self.exports:
            self.error(where, f"imports {name}, which no template exports")

    def appspec(self, path, appspec) -> None:
        hooks = appspec.get("Hooks", [])
        if not hooks:
            self.error(path, "has no Hooks")
        for hook in hooks:
            for event, name in hook.items():
                self.event(path, event, name, {})

    def template(self, path, template) -> None:
        names = defaults(template)
        for keys, value in nodes(template):
            if keys[-1:] == ("Fn::ImportValue",):
                self.imported(path, text(value, names))
            elif keys[-2:] == ("DeploymentPreference", "Hooks"):
                for event, name in value.items():
                    self.event(path, event, name, names)
            elif len(keys) > 1 and keys[-2] == "LifecycleHooks":
                for key, export in EXPORT_OF_PROPERTY.items():
                    seen = value.get(key)
                    seen = text(seen.get("Fn::ImportValue"), names) if isinstance(seen, dict) else seen
                    if seen != f"{STACK}-{export}":
                        self.error(path, f"{key} of a lifecycle hook is not the export {STACK}-{export}")
            elif keys[-1:] == ("Tags",) and WATCH_TAG in value:
                self.named += 1

    def any_text(self, path: Path) -> None:
        """Names in READMEs, scripts and comments, where nothing tells that a hook is meant but its name."""
        for found in FUNCTION_NAME.findall(path.read_text()):
            name = PLACEHOLDER.sub(STACK, found)
            # A pattern such as CodeDeployHook_* and the part that a script replaces are no names of functions.
            if name not in self.functions | self.of_the_lab and not name.endswith(f"_{STACK}") and name != f"CodeDeployHook_{STACK}_":
                self.error(path, f"names {found}, which template.yaml does not make")

    def folder(self, folder: Path) -> None:
        before = self.named
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            if path.name.startswith("appspec."):
                self.appspec(path, load(path))
            elif path.name == "template.yaml":
                self.template(path, load(path))
            elif path.suffix == ".json":
                json.loads(path.read_text())
            self.any_text(path)
        for file in ("template.yaml", "README.md"):
            if not (folder / file).exists():
                self.error(folder, f"has no {file}")
        if self.named == before:
            self.error(folder, "names no hook, export or tag of Shiftgate: has its form changed?")


def main() -> int:
    checker = Checker(Path(sys.argv[1] if len(sys.argv) > 1 else "template.yaml"))
    folders = sorted(each for each in EXAMPLES.iterdir() if each.is_dir())
    for folder in folders:
        checker.folder(folder)
    for path in DOCUMENTS:
        checker.any_text(path)
    for error in checker.errors:
        print(error)
    print(f"{checker.named} names in {len(folders)} examples, {len(checker.errors)} errors", flush=True)

    templates = [str(folder / "template.yaml") for folder in folders]
    commands = [["sam", "validate", "--lint", "--template", each] for each in templates] + [["cfn-lint", *templates]]
    failed = [" ".join(command) for command in commands if subprocess.run(command).returncode != 0]
    for command in failed:
        print(f"failed: {command}")
    return 1 if checker.errors or failed or not folders else 0


if __name__ == "__main__":
    sys.exit(main())
