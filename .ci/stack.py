"""Deploys what `sam build` has built to a CloudFormation that runs here (moto): package, transform, create, as `sam deploy` does. And
packages the templates of a release with pretended zips, as .ci/package does.

Run from the repository's root after `sam build`, with .venv/bin on PATH:  python3 .ci/stack.py
"""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import boto3
from samtranslator.public.translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

BUILT = Path(".aws-sam/build/template.yaml")
BUCKET = "artifacts"
REGION = "eu-west-1"
# The defaults, and everything that can be asked for.
STACKS = {
    "shiftgate": {},
    "shiftgate-full": {
        "LogRetentionDays": "365",
        "DeploymentGroups": "shop/*",
        "EcsServices": "main/*",
        "SmokedFunctions": "shop-*",
        "SecretsKeyArn": f"arn:aws:kms:{REGION}:123456789012:key/00000000-0000-0000-0000-000000000000",
        "ManagedSecrets": "shop/*",
        "AllowedHosts": "example.com",
        "AlertEmail": "team@example.com",
        "NotifyEmail": "team@example.com",
        "NotifyOn": "all",
        "StoreReports": "yes",
    },
}


@contextmanager
def moto():
    """A server of moto, at the address that AWS's own clients are told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(["moto_server", "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "moto",
        "AWS_SECRET_ACCESS_KEY": "moto",
    }
    try:
        wait_for(port)
        yield
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("moto_server does not answer within 30 s")


def packaged() -> str:
    """The template with its code in the bucket."""
    output = BUILT.with_name("packaged.yaml")
    command = ["sam", "package", "--template-file", BUILT, "--s3-bucket", BUCKET, "--output-template-file", output, "--region", REGION]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return output.read_text()


def transformed(template: str, parameters: dict) -> dict:
    """What CloudFormation makes of a SAM template."""
    return transform(yaml_parse(template), parameters, ManagedPolicyLoader(boto3.client("iam")))


def without_no_value(value):
    """The same without what stands in lists under a condition, or else not at all: moto leaves an empty entry in its place.

    With the defaults none of these conditions holds."""
    if isinstance(value, dict):
        return {key: without_no_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_no_value(each) for each in value if not may_be_left_out(each)]
    return value


def may_be_left_out(value) -> bool:
    return isinstance(value, dict) and "Fn::If" in value and value["Fn::If"][2] == {"Ref": "AWS::NoValue"}


def create(name: str, template: dict, parameters: dict) -> list[str]:
    """Creates a stack; what is wrong with it."""
    cloudformation, s3 = boto3.client("cloudformation"), boto3.client("s3")
    # As `sam deploy` does: a template this long has to come from a bucket.
    s3.put_object(Bucket=BUCKET, Key=f"{name}.json", Body=json.dumps(template))
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"https://{BUCKET}.s3.{REGION}.amazonaws.com/{name}.json",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    summaries = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    # moto lists some of them twice, and others not at all.
    kinds = {each["LogicalResourceId"]: each["ResourceType"] for each in summaries}
    outputs = {output["OutputKey"] for output in stack.get("Outputs", [])}
    print(f"{name}: {stack['StackStatus']}, {len(kinds)} resources that moto knows, {len(outputs)} outputs")
    problems = [] if stack["StackStatus"] == "CREATE_COMPLETE" else [f"{name}: {stack['StackStatus']}"]
    functions = list(kinds.values()).count("AWS::Lambda::Function")
    expected = len(list(Path("functions").iterdir()))
    if functions != expected:
        problems.append(f"{name}: {functions} functions, and there should be {expected}")
    return problems


def faults_of_release() -> list[str]:
    """Whether the templates of a release can be packaged: each function's zip must come into the bucket, and be what is named."""
    problems = []
    functions = sorted(each.name for each in Path("functions").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ("arm64", "x86_64"):
            for function in functions:
                with zipfile.ZipFile(Path(folder) / f"{function}-{architecture}.zip", "w") as archive:
                    archive.writestr("bootstrap", f"{function} for {architecture}")
            subprocess.run([sys.executable, ".ci/release_template.py", folder, architecture], check=True)
        subprocess.run(["bash", ".ci/package", folder, BUCKET], check=True, stdout=subprocess.DEVNULL, timeout=300)
        for architecture in ("arm64", "x86_64"):
            template = yaml_parse((Path(folder) / f"packaged-shiftgate-{architecture}.yaml").read_text())
            found = sorted(code_of(each) for each in template["Resources"].values() if each["Type"] == "AWS::Serverless::Function")
            expected = sorted(f"{function} for {architecture}" for function in functions)
            problems += [f"{architecture}: the packaged template names {found}"] if found != expected else []
    print(f"a release: {len(functions)} functions for each architecture")
    return problems


def code_of(function: dict) -> str:
    """What lies in the bucket as a function's code."""
    bucket, key = function["Properties"]["CodeUri"].removeprefix("s3://").split("/", 1)
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return zipfile.ZipFile(io.BytesIO(body)).read("bootstrap").decode()


def main() -> int:
    if not BUILT.exists():
        print(f"there is no {BUILT}: run `sam build` first", file=sys.stderr)
        return 1
    problems = []
    with moto():
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        problems += faults_of_release()
        template = packaged()
        for name, parameters in STACKS.items():
            stack = transformed(template, parameters)
            problems += create(name, stack if parameters else without_no_value(stack), parameters)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
