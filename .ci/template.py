"""What sam and cfn-lint do not look at in template.yaml: our own rules, and checkov's.

Run from the repository's root with .venv/bin on PATH:  python .ci/template.py
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import cfn_guard_rs
from cfnlint.decode import cfn_yaml

TEMPLATE = "template.yaml"
RULES = ".ci/template.guard"


def broken_rules(template: dict) -> list[str]:
    """The rules of ours that do not hold."""
    with open(RULES) as file:
        report = cfn_guard_rs.run_checks(template, file.read())
    holds = set(report.compliant) | set(report.not_applicable)
    expected = re.findall(r"^rule (\w+)", open(RULES).read(), re.MULTILINE)
    broken = [f"{rule}: does not hold" for rule in expected if rule not in holds]
    # A rule that found nothing to look at guards nothing.
    return broken + [f"{rule}: looks at nothing" for rule in report.not_applicable]


def wide_resources(text: str) -> list[str]:
    """Resources of all kinds that do not say why: Guard sees no comments."""
    lines = enumerate(text.splitlines(), start=1)
    wide = re.compile(r"""^\s*(- )?(Resource: )?["']\*["']\s*$""")
    return [f"line {number}: a \"*\" without its reason" for number, line in lines if wide.match(line)]


def failed_checks(template: dict) -> list[str]:
    """What checkov does not like, but for what the template's Metadata gives a reason for."""
    skipped = template["Metadata"]["checkov"]["skip"]
    unexplained = [skip["id"] for skip in skipped if not skip.get("comment")]
    command = ["checkov", "--framework", "cloudformation", "--file", TEMPLATE, "--output", "json", "--compact"]
    command += ["--skip-check", ",".join(skip["id"] for skip in skipped)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    results = json.loads(process.stdout)["results"]
    print(f"checkov: {len(results['passed_checks'])} passed, {len(skipped)} skipped with a reason")
    failed = [f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in results["failed_checks"]]
    return failed + [f"{id}: skipped without a reason" for id in unexplained]


def bodies_that_are_no_json(template: dict) -> list[str]:
    """Dashboards whose body CloudWatch would refuse once its variables are filled in."""
    problems = []
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::CloudWatch::Dashboard":
            continue
        try:
            widgets = json.loads(re.sub(r"\$\{[^}]*\}", "x", resource["Properties"]["DashboardBody"]["Fn::Sub"]))["widgets"]
        except (ValueError, KeyError) as error:
            problems.append(f"{name}: its body is no dashboard: {error}")
            continue
        if any(widget["x"] + widget["width"] > 24 for widget in widgets):
            problems.append(f"{name}: a widget is beyond the 24 columns")
    return problems


def faults_of_publication(template: dict) -> list[str]:
    """What the Serverless Application Repository would refuse, or show wrongly."""
    application = template["Metadata"]["AWS::ServerlessRepo::Application"]
    version = re.search(r'^version = "(.+)"$', open("Cargo.toml").read(), re.MULTILINE).group(1)
    problems = []
    if application["SemanticVersion"] != version:
        problems.append(f"SemanticVersion is {application['SemanticVersion']}, and Cargo.toml has {version}")
    problems += [f"{key}: there is no file {application[key]}" for key in ("LicenseUrl", "ReadmeUrl") if not Path(application[key]).exists()]
    if len(application["Description"]) > 256:
        problems.append("Description: more than the 256 characters that the repository takes")
    return problems


def main() -> int:
    with open(TEMPLATE) as file:
        text = file.read()
    template = cfn_yaml.loads(text)
    problems = broken_rules(template) + wide_resources(text) + bodies_that_are_no_json(template)
    problems += faults_of_publication(template)
    problems += failed_checks(template)
    for problem in problems:
        print(f"{TEMPLATE}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
