"""Writes docs/parameters.md and docs/iam.md from template.yaml. Needs PyYAML.

Run from the repository's root:  python3 .ci/template_reference.py [--check]   (with --check it fails when a page is old)
"""

import json
import re
import sys
from pathlib import Path

import cfn

TEMPLATE = Path("template.yaml")
MADE = "<!-- Written by .ci/template_reference.py from template.yaml. -->\n"
PARAMETERS_HEAD = """
# Template parameters

Of `template.yaml`, given by `sam deploy --parameter-overrides NAME=VALUE`. What you gave before stays as it
is. What is empty is left out. [Permissions](iam.md) shows where they end up.

| parameter | default | values | meaning |
|---|---|---|---|
"""
OUTPUTS_HEAD = """
## Outputs

`aws cloudformation describe-stacks --stack-name shiftgate --query 'Stacks[0].Outputs'` shows them. An export is what other
stacks name in `!ImportValue`.

| output | export | what it is for |
|---|---|---|
"""
IAM_HEAD = """
# Permissions

Each function has a role of its own, which holds what its code calls and nothing else; a test compares the two. `${DeploymentGroups}`
and others are [template parameters](parameters.md). `P`, `R` and `A` stand for partition, region and account. What a statement
is there for is said in `template.yaml`, and what the roles can do at worst in `SECURITY.md`.
"""


NOTHING = {"Ref": "AWS::NoValue"}


def spoken(value) -> str:
    """A resource, an action or a name as text."""
    if not isinstance(value, dict):
        return str(value)
    (name, inner), = value.items()
    if name == "Fn::Sub":
        text = inner if isinstance(inner, str) else inner[0]
        for long, short in {"Partition": "P", "Region": "R", "AccountId": "A", "StackName": "STACK"}.items():
            text = text.replace("${AWS::%s}" % long, short)
        return text
    if name in ("Ref", "Fn::GetAtt"):
        return "${%s}" % (inner if isinstance(inner, str) else ".".join(inner)).removesuffix(".Arn")
    if name == "Fn::If":
        otherwise = f", else {spoken(inner[2])}" if inner[2] != NOTHING else ""
        return f"if {inner[0]}: {spoken(inner[1])}{otherwise}"
    return json.dumps(value)


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(values) -> str:
    return ", ".join(f"`{cell(spoken(each))}`" for each in listed(values))


def parameters(template: dict) -> str:
    text = MADE + PARAMETERS_HEAD
    for name, each in template["Parameters"].items():
        default = f"`{each['Default']}`" if str(each.get("Default", "")) else "empty" if "Default" in each else "must be given"
        values = code(each["AllowedValues"]) if "AllowedValues" in each else each["Type"]
        text += f"| `{name}` | {default} | {values} | {cell(each['Description'])} |\n"
    text += OUTPUTS_HEAD
    for name, each in template["Outputs"].items():
        export = f"`{spoken(each['Export']['Name'])}`" if "Export" in each else ""
        text += f"| `{name}` | {export} | {cell(each['Description'])} |\n"
    return text


def rows(statements: list, condition: str = "") -> str:
    text = ""
    for statement in statements:
        if "Fn::If" in statement:
            name, then, otherwise = statement["Fn::If"]
            text += rows([then], name)
            text += rows([otherwise], f"not {name}") if otherwise != NOTHING else ""
            continue
        effect = "" if statement["Effect"] == "Allow" else "**denied** "
        when = [condition] if condition else []
        when += [f"`{key}`: {code(value)}" for test in statement.get("Condition", {}).values() for key, value in test.items()]
        text += f"| {effect}{code(statement['Action'])} | {code(statement['Resource'])} | {'; '.join(when)} |\n"
    return text


def policy(document: dict, condition: str = "") -> str:
    return "\n| actions | resources | only if |\n|---|---|---|\n" + rows(listed(document["Statement"]), condition)


def title(name: str) -> str:
    """`BeforeInstallRole` as "before-install"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name.removesuffix("Role")).lower()


def iam(template: dict) -> str:
    kinds = {"AWS::IAM::ManagedPolicy": [], "AWS::IAM::Role": []}
    for name, each in template["Resources"].items():
        if each["Type"] in kinds:
            kinds[each["Type"]].append((name, each.get("Condition", ""), each["Properties"]))
    text = MADE + IAM_HEAD + "\n## Shared policies\n"
    for name, condition, properties in kinds["AWS::IAM::ManagedPolicy"]:
        text += f"\n### {name}\n\n{cell(properties['Description'])}{f' (if {condition})' if condition else ''}.\n"
        text += policy(properties["PolicyDocument"])
    text += "\n## Roles\n"
    for name, _, properties in kinds["AWS::IAM::Role"]:
        trusted = properties["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
        text += f"\n### {title(name)}\n\n{cell(properties['Description'])}. Taken on by {code(trusted)}."
        shared = [each["Fn::If"][1] if "Fn::If" in each else each for each in properties.get("ManagedPolicyArns", [])]
        links = [f"[{each['Ref']}](#{each['Ref'].lower()})" if "Ref" in each else code(each) for each in shared]
        text += f" Beside what follows: {', '.join(links)}.\n" if links else "\n"
        for own in properties.get("Policies", []):
            condition, own = own["Fn::If"][:2] if "Fn::If" in own else ("", own)
            text += policy(own["PolicyDocument"], condition)
    return text


def main() -> int:
    template = cfn.load(TEMPLATE)
    pages = {Path("docs/parameters.md"): parameters(template), Path("docs/iam.md"): iam(template)}
    old = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if sys.argv[1:] == ["--check"]:
        for path in old:
            print(f"{path} is not what {TEMPLATE} says: run python3 .ci/template_reference.py")
        return 1 if old else 0
    for path in old:
        path.write_text(pages[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
