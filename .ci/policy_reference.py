"""Writes docs/policy-reference.md, every key of a policy, from docs/policy.schema.json. Needs nothing beside Python.

Run from the repository's root:  python3 .ci/policy_reference.py [--check]   (with --check it fails when the page is old)
"""

import json
import re
import sys
from pathlib import Path

SCHEMA = Path("docs/policy.schema.json")
PAGE = Path("docs/policy-reference.md")
HEAD = """\
<!-- Written by .ci/policy_reference.py from policy.schema.json: change the doc comments in shared/src/policy/raw.rs. -->

# All keys of a policy

What the [JSON Schema](policy.schema.json) says, as tables. [The policy](policy.md) has the reasons for the defaults, and how
gates judge. Every key is optional, and an unknown one is an error.
"""
# Kinds of values that are explained once, at the end.
FORMS = "Forms"


def resolved(node: dict, kinds: dict) -> tuple[str | None, dict]:
    """The name of the kind that a node refers to, if it does, and what the node is without null."""
    for option in node.get("anyOf", []):
        if option != {"type": "null"}:
            return resolved(option, kinds)
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        return name, kinds[name]
    return None, node


def is_choice(kind: dict) -> bool:
    return all("const" in option for option in kind.get("oneOf", [{}]))


def is_section(kind: dict) -> bool:
    return kind.get("type") == "object" and "properties" in kind


def spoken(name: str) -> str:
    """`SlowerThan` as "slower than"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


def value(node: dict, kinds: dict) -> str:
    """What may stand behind a key, in a few words."""
    name, kind = resolved(node, kinds)
    if is_section(kind):
        return f"[{name}](#{name.lower()})"
    if is_choice(kind):
        return " or ".join(f"`{option['const']}`" for option in kind["oneOf"])
    if name:
        return f"[{spoken(name)}](#{FORMS.lower()})"
    types = kind.get("type", [])
    types = [each for each in ([types] if isinstance(types, str) else types) if each != "null"]
    if types == ["array"]:
        return f"list of {value(kind['items'], kinds)}"
    if types == ["object"]:
        return f"name to {value(kind['additionalProperties'], kinds)}"
    if types == ["integer"] and "maximum" in kind:
        return f"{kind['minimum']} to {kind['maximum']}"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return " or ".join(names[each] for each in types) or "any JSON"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(kind: dict, kinds: dict) -> str:
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, node in kind["properties"].items():
        rows.append(f"| `{key}` | {value(node, kinds)} | {cell(node.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def page(schema: dict) -> str:
    kinds = schema["$defs"]
    parts = [HEAD, "## Top level\n", table(schema, kinds)]
    for name, kind in kinds.items():
        if is_section(kind):
            parts += [f"## {name}\n", cell(kind["description"]) + "\n", table(kind, kinds)]
    rows = ["| kind | forms |", "|---|---|"]
    for name, kind in kinds.items():
        if not is_section(kind) and not is_choice(kind):
            rows.append(f"| {spoken(name)} | {cell(kind['description'])} |")
    parts += [f"## {FORMS}\n", "\n".join(rows) + "\n"]
    return "\n".join(parts)


def main() -> int:
    text = page(json.loads(SCHEMA.read_text()))
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == text:
            return 0
        print(f"{PAGE} is not what {SCHEMA} says: run python3 .ci/policy_reference.py")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
