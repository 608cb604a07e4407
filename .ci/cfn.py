"""Reads CloudFormation's YAML, for the checks beside this file. Needs PyYAML."""

import functools
import re
from pathlib import Path

import yaml


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: !Ref, !Sub and so on become {"Ref": ...}, {"Fn::Sub": ...}."""


def intrinsic(loader: Loader, suffix: str, node: yaml.Node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", intrinsic)


def parse(text: str):
    return yaml.load(text, Loader)  # a SafeLoader with more tags


@functools.cache
def load(path: Path):
    return parse(path.read_text())


def text(value, names: dict[str, str]) -> str:
    """A plain string, !Ref or !Sub with these names put in."""
    if isinstance(value, dict):
        if value.keys() == {"Ref"}:
            return names.get(value["Ref"], f"${{{value['Ref']}}}")
        value = value.get("Fn::Sub", "")
    if not isinstance(value, str):
        return ""
    return re.sub(r"\$\{([\w:]+)\}", lambda found: names.get(found[1], found[0]), value)


def nodes(value, path=()):
    """Every value in a document, with the keys that lead to it."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from nodes(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from nodes(inner, (*path, position))
