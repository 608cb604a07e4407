"""The AWS CLI against `shiftgate serve`: a real client parses and checks whatever the lab answers. And `shiftgate init`, which asks
the same account.

Run from the repository's root after `cargo build --workspace`, with the AWS CLI on PATH:  python3 .ci/clients.py
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cache

LONGEST_SECONDS = 180
CHECKS = []


def check(function):
    """Marks a check; checks run in the order in which they stand here."""
    CHECKS.append(function)
    return function


class Failed(AssertionError):
    """What the AWS CLI could not do or should not have been able to do."""


# ---- the AWS CLI


def aws(*arguments: str) -> dict:
    """What the AWS CLI answers."""
    process = run_aws(arguments)
    if process.returncode != 0:
        raise Failed(f"aws {shlex.join(arguments)}: {process.stderr.strip()}")
    return json.loads(process.stdout or "{}")


def aws_refuses(error: str, *arguments: str) -> None:
    """The call must end in the service's error of this name."""
    process = run_aws(arguments)
    if f"({error})" not in process.stderr:
        seen = process.stderr.strip() or f"no error but {process.stdout.strip()}"
        raise Failed(f"aws {shlex.join(arguments)}: expected {error}, got {seen}")


def run_aws(arguments: tuple[str, ...]) -> subprocess.CompletedProcess:
    command = ["aws", *arguments, "--output", "json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


def equal(seen, expected, what: str) -> None:
    if seen != expected:
        raise Failed(f"{what} is {seen!r}, not {expected!r}")


def holds(condition: bool, what: str) -> None:
    if not condition:
        raise Failed(what)


def wait_for(what: str, seconds: float, look):
    """The first answer of `look` that is not empty."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > end:
            raise Failed(f"no {what} within {seconds} s")
        time.sleep(0.5)
    return seen


# ---- the deployments that wait


def sample(function: str) -> dict:
    with open(f"events/{function}.json") as file:
        return json.load(file)


def deployment(function: str) -> str:
    event = sample(function)
    return event.get("DeploymentId") or event["deployment_id"]


def info(id: str) -> dict:
    return aws("deploy", "get-deployment", "--deployment-id", id)["deploymentInfo"]


# Cached below is what never changes: each call starts a client, which takes about a second.


@cache
def group(function: str) -> dict:
    about = info(deployment(function))
    names = ["--application-name", about["applicationName"], "--deployment-group-name", about["deploymentGroupName"]]
    return aws("deploy", "get-deployment-group", *names)["deploymentGroupInfo"]


@cache
def target_id(id: str) -> str:
    ids = aws("deploy", "list-deployment-targets", "--deployment-id", id)["targetIds"]
    equal(len(ids), 1, f"number of targets of {id}")
    return ids[0]


def target(id: str) -> dict:
    answer = aws("deploy", "get-deployment-target", "--deployment-id", id, "--target-id", target_id(id))
    return answer["deploymentTarget"]["ecsTarget"]


def events(id: str) -> dict[str, str]:
    return {event["lifecycleEventName"]: event["status"] for event in target(id)["lifecycleEvents"]}


def report(function: str, status: str = "Succeeded", **other: str) -> list[str]:
    """The arguments that report for a function, with some of them replaced."""
    event = sample(function)
    arguments = {
        "deployment-id": event["DeploymentId"],
        "lifecycle-event-hook-execution-id": event["LifecycleEventHookExecutionId"],
        "status": status,
    } | {name.replace("_", "-"): value for name, value in other.items()}
    pairs = [word for name, value in arguments.items() if value for word in (f"--{name}", value)]
    return ["deploy", "put-lifecycle-event-hook-execution-status", *pairs]


@cache
def colours() -> dict[str, str]:
    """ARNs of the watch's target groups, by colour."""
    names = {each["taskSetLabel"]: each["targetGroup"]["name"] for each in target(deployment("watch"))["taskSetsInfo"]}
    found = aws("elbv2", "describe-target-groups", "--names", *names.values())["TargetGroups"]
    arns = {each["TargetGroupName"]: each["TargetGroupArn"] for each in found}
    return {colour: arns[name] for colour, name in names.items()}


# ---- the checks


@check
def each_deployment_waits_at_its_hook():
    for function, event in {
        "before-install": "BeforeInstall",
        "after-install": "AfterInstall",
        "after-allow-test-traffic": "AfterAllowTestTraffic",
        "before-allow-traffic": "BeforeAllowTraffic",
        "after-allow-traffic": "AfterAllowTraffic",
        "watch": "AllowTraffic",
    }.items():
        waiting = [name for name, status in events(deployment(function)).items() if status == "InProgress"]
        equal(waiting, [event], f"what {function}'s deployment waits at")


@check
def a_deployment_tells_its_events_and_colours():
    about = info(deployment("watch"))
    equal((about["status"], about["creator"], about["computePlatform"]), ("InProgress", "user", "ECS"), "deployment")
    watched = target(deployment("watch"))
    cluster, service = watched["targetId"].split(":")
    equal(group("watch")["ecsServices"], [{"serviceName": service, "clusterName": cluster}], "the group's service")
    equal(len(watched["lifecycleEvents"]), 8, "number of lifecycle events")
    weights = {each["taskSetLabel"]: each["trafficWeight"] for each in watched["taskSetsInfo"]}
    equal(weights, {"Blue": 90.0, "Green": 10.0}, "weights at the canary step")
    for tasks in watched["taskSetsInfo"]:
        equal(tasks["runningCount"], tasks["desiredCount"], f"running tasks of {tasks['taskSetLabel']}")


@check
def deployments_are_listed_by_group_status_and_time():
    about = info(deployment("watch"))
    of_application = ["deploy", "list-deployments", "--application-name", about["applicationName"]]
    of_group = [*of_application, "--deployment-group-name", about["deploymentGroupName"]]
    equal(aws(*of_group)["deployments"], [deployment("watch"), "d-PASTWATCH"], "the group's deployments")
    ended = ["--include-only-statuses", "Succeeded", "Failed", "Stopped"]
    equal(aws(*of_group, *ended)["deployments"], ["d-PASTWATCH"], "those that have ended")
    lately = (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat()
    equal(aws(*of_group, *ended, "--create-time-range", f"start={lately}")["deployments"], [], "those of now")
    aws_refuses("DeploymentGroupNameRequiredException", *of_application)


@check
def a_report_ends_the_hook_once():
    id = deployment("before-install")
    answer = aws(*report("before-install"))
    given = sample("before-install")["LifecycleEventHookExecutionId"]
    equal(answer, {"lifecycleEventHookExecutionId": given}, "the answer to a report")
    wait_for("end of BeforeInstall", 10, lambda: events(id)["BeforeInstall"] == "Succeeded")
    aws_refuses("LifecycleEventAlreadyCompletedException", *report("before-install"))
    aws_refuses("LifecycleEventAlreadyCompletedException", *report("before-install", "Failed"))


@check
def a_failed_report_fails_the_deployment():
    id = deployment("after-install")
    aws(*report("after-install", "Failed"))
    failed = wait_for("end of the deployment", 20, lambda: (seen := info(id))["status"] == "Failed" and seen)
    equal(failed["errorInformation"]["code"], "HOOK_EXECUTION_FAILURE", "the error's code")
    statuses = events(id)
    equal((statuses["AfterInstall"], statuses["AllowTraffic"]), ("Failed", "Skipped"), "AfterInstall and AllowTraffic")


@check
def wrong_reports_are_refused_as_documented():
    hook = "after-allow-test-traffic"
    for error, arguments in [
        ("InvalidDeploymentIdException", report(hook, deployment_id="nonsense")),
        ("DeploymentDoesNotExistException", report(hook, deployment_id="d-NOSUCHONE")),
        ("DeploymentIdRequiredException", report(hook, deployment_id="")),
        ("InvalidLifecycleEventHookExecutionIdException", report(hook, lifecycle_event_hook_execution_id="nonsense")),
        ("InvalidLifecycleEventHookExecutionStatusException", report(hook, "Skipped")),
    ]:
        aws_refuses(error, *arguments)
    equal(events(deployment(hook))["AfterAllowTestTraffic"], "InProgress", "the hook after five wrong reports")


@check
def targets_are_healthy():
    for colour, arn in colours().items():
        described = aws("elbv2", "describe-target-health", "--target-group-arn", arn)["TargetHealthDescriptions"]
        states = [each["TargetHealth"]["State"] for each in described]
        # The watch's service has a task in each zone.
        equal(states, ["healthy"] * 3, f"states of {colour}'s targets")
    unknown = colours()["Blue"][:-1] + "x"
    aws_refuses("TargetGroupNotFound", "elbv2", "describe-target-health", "--target-group-arn", unknown)


@check
def a_percentile_of_both_colours():
    route = group("watch")["loadBalancerInfo"]["targetGroupPairInfoList"][0]["prodTrafficRoute"]
    listener = aws("elbv2", "describe-listeners", "--listener-arns", *route["listenerArns"])["Listeners"][0]
    balancers = aws("elbv2", "describe-load-balancers", "--load-balancer-arns", listener["LoadBalancerArn"])
    balancer = balancers["LoadBalancers"][0]["LoadBalancerArn"].split(":loadbalancer/")[1]
    groups = {colour: arn.rsplit(":", 1)[1] for colour, arn in colours().items()}

    def query(id: str, metric: str, statistic: str, colour: str) -> dict:
        dimensions = {"LoadBalancer": balancer, "TargetGroup": groups[colour]}
        named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        about = {"Namespace": "AWS/ApplicationELB", "MetricName": metric, "Dimensions": named}
        # Ten seconds, which only the lab has for a load balancer, spare this test two minutes.
        return {"Id": id, "MetricStat": {"Metric": about, "Period": 10, "Stat": statistic}}

    queries = [
        query("blue", "TargetResponseTime", "p99", "Blue"),
        query("green", "TargetResponseTime", "p99", "Green"),
        query("requests", "RequestCount", "Sum", "Blue"),
        {"Id": "milliseconds", "Expression": "blue * 1000"},
    ]

    def series() -> dict:
        now = datetime.now(timezone.utc)
        times = ["--start-time", (now - timedelta(minutes=5)).isoformat(), "--end-time", now.isoformat()]
        results = aws("cloudwatch", "get-metric-data", "--metric-data-queries", json.dumps(queries), *times)
        found = {each["Id"]: each for each in results["MetricDataResults"]}
        return found if all(each["Values"] for each in found.values()) else {}

    found = wait_for("p99 of TargetResponseTime", 60, series)
    equal({each["StatusCode"] for each in found.values()}, {"Complete"}, "status of the series")
    for colour in ("blue", "green"):
        values = found[colour]["Values"]
        equal(len(found[colour]["Timestamps"]), len(values), f"timestamps of {colour}")
        holds(all(0 < value < 5 for value in values), f"p99 of {colour} is no response time in seconds: {values}")
    holds(sum(found["requests"]["Values"]) >= 1, "no requests are counted")
    for seconds, milliseconds in zip(found["blue"]["Values"], found["milliseconds"]["Values"], strict=True):
        holds(abs(seconds * 1000 - milliseconds) < 1e-6, f"{seconds} * 1000 is {milliseconds}")


@check
def parameters_are_kept():
    policy = aws("ssm", "get-parameter", "--name", "/shiftgate/watch/watch-group")["Parameter"]
    holds("metrics" in policy["Value"], f"the watch's policy is {policy['Value']!r}")
    put = ["ssm", "put-parameter", "--name", "/shiftgate/smoke-token", "--value", "secret", "--type", "SecureString"]
    equal(aws(*put)["Version"], 1, "version of a new parameter")
    aws_refuses("ParameterAlreadyExists", *put)
    read = ["ssm", "get-parameter", "--name", "/shiftgate/smoke-token"]
    holds(aws(*read)["Parameter"]["Value"] != "secret", "a secret is shown without decryption")
    decrypted = aws(*read, "--with-decryption")["Parameter"]
    equal((decrypted["Value"], decrypted["Type"]), ("secret", "SecureString"), "the decrypted parameter")
    aws_refuses("ParameterNotFound", "ssm", "get-parameter", "--name", "/shiftgate/nothing")


@check
def a_stopped_canary_is_rolled_back_and_its_watch_ends():
    id = deployment("watch")
    machine = os.environ["SHIFTGATE_STATE_MACHINE_ARN"]
    look = json.dumps(sample("watch") | {"after_seconds": 1})
    start = ["stepfunctions", "start-execution", "--state-machine-arn", machine, "--name", id, "--input"]
    execution = aws(*start, look)["executionArn"]

    def described() -> dict:
        return aws("stepfunctions", "describe-execution", "--execution-arn", execution)

    def listed(status: str) -> list[str]:
        filtered = ["--state-machine-arn", machine, "--status-filter", status]
        return [each["name"] for each in aws("stepfunctions", "list-executions", *filtered)["executions"]]

    running = described()
    equal((running["status"], running["name"]), ("RUNNING", id), "the execution")
    equal(listed("RUNNING"), [id], "executions that run")

    stop = ["deploy", "stop-deployment", "--deployment-id", id, "--auto-rollback-enabled"]
    holds(aws(*stop)["status"] in ("Pending", "Succeeded"), "StopDeployment is neither pending nor done")
    rollback = wait_for("rollback", 20, lambda: info(id).get("rollbackInfo", {}).get("rollbackDeploymentId"))
    stopped = info(id)
    equal((stopped["status"], stopped["errorInformation"]["code"]), ("Stopped", "MANUAL_STOP"), "the deployment")
    undone = wait_for("end of the rollback", 20, lambda: (seen := info(rollback))["status"] == "Succeeded" and seen)
    equal(undone["creator"], "codeDeployRollback", "the rollback's creator")
    equal(undone["rollbackInfo"]["rollbackTriggeringDeploymentId"], id, "what the rollback undoes")
    weights = {each["taskSetLabel"]: each["trafficWeight"] for each in target(id)["taskSetsInfo"]}
    equal(weights, {"Blue": 100.0, "Green": 0.0}, "weights after the rollback")
    aws_refuses("DeploymentAlreadyCompletedException", *stop)

    ended = wait_for("end of the watch", 45, lambda: (seen := described())["status"] != "RUNNING" and seen)
    equal(ended["status"], "SUCCEEDED", "the watch's execution")
    equal(json.loads(ended["output"])["next"], "done", "the last look's answer")
    equal(listed("SUCCEEDED"), [id], "executions that succeeded")
    aws_refuses("ExecutionAlreadyExists", *start, look)

    never_started = execution.removesuffix(id) + "d-NEVER0000"
    aws_refuses("ExecutionDoesNotExist", "stepfunctions", "describe-execution", "--execution-arn", never_started)


@check
def a_watch_that_is_stopped_by_hand_is_aborted():
    # This deployment waits before its shift, so its watch looks again and again.
    look = json.dumps({"deployment_id": deployment("before-allow-traffic"), "duty": "traffic", "after_seconds": 30})
    machine = os.environ["SHIFTGATE_STATE_MACHINE_ARN"]
    started = aws("stepfunctions", "start-execution", "--state-machine-arn", machine, "--input", look)
    execution = ["--execution-arn", started["executionArn"]]
    aws("stepfunctions", "stop-execution", *execution, "--cause", "by hand")
    ended = aws("stepfunctions", "describe-execution", *execution)
    equal((ended["status"], ended["cause"]), ("ABORTED", "by hand"), "the stopped execution")
    holds(ended["stopDate"] >= ended["startDate"], "the execution ended before it began")


# ---- what the functions have logged


@check
def the_log_is_found_by_group_and_pattern():
    # The watch's execution above has called its function.
    watch = "/aws/lambda/CodeDeployHook_lab_watch"
    prefix = ["--log-group-name-prefix", "/aws/lambda/CodeDeployHook_"]
    groups = aws("logs", "describe-log-groups", *prefix)["logGroups"]
    equal(len(groups), 6, "number of log groups")
    equal([(each["logGroupName"], each["retentionInDays"]) for each in groups][-1], (watch, 90), "the watch's group")
    # Pages of two, which the CLI puts together.
    few = aws("logs", "describe-log-groups", *prefix, "--page-size", "2")["logGroups"]
    equal(few, groups, "the groups in pages")

    of_watch = ["logs", "filter-log-events", "--log-group-name", watch]
    pattern = ["--filter-pattern", '{ $.message = "watch over" && $.deployment_id = "%s" }']
    events = aws(*of_watch)["events"]
    holds(any("START RequestId" in each["message"] for each in events), "no START line")
    stopped = deployment("watch")
    over = aws(*of_watch, pattern[0], pattern[1] % stopped)["events"]
    holds(over and all(json.loads(each["message"])["deployment_id"] == stopped for each in over), "no end of the watch")
    equal(aws(*of_watch, pattern[0], pattern[1] % "d-NOSUCHONE")["events"], [], "lines of no deployment")
    aws_refuses("ResourceNotFoundException", *of_watch[:-1], "/aws/lambda/nothing")
    aws_refuses("InvalidParameterException", *of_watch, "--filter-pattern", "{ message }")


# ---- ECS's own deployment

ECS_SERVICE = "arn:aws:ecs:eu-west-1:123456789012:service/lab/ecs-lifecycle"
ECS_DEPLOYMENT = ECS_SERVICE.replace(":service/", ":service-deployment/") + "/SampleDeployment00001"
OF_ECS_SERVICE = ["--cluster", "lab", "--service", "ecs-lifecycle"]


def ecs_deployment() -> dict:
    answer = aws("ecs", "describe-service-deployments", "--service-deployment-arns", ECS_DEPLOYMENT)
    equal(answer["failures"], [], "failures")
    return answer["serviceDeployments"][0]


def ecs_rules(kind: str) -> list[dict]:
    """The rules beside the production or test rule of the service, with it."""
    revision = ecs_deployment()["targetServiceRevision"]["arn"]
    revisions = aws("ecs", "describe-service-revisions", "--service-revision-arns", revision)["serviceRevisions"]
    rule = revisions[0]["loadBalancers"][0]["advancedConfiguration"][f"{kind}ListenerRule"]
    listener = rule.replace(":listener-rule/", ":listener/").rsplit("/", 1)[0]
    rules = aws("elbv2", "describe-rules", "--listener-arn", listener)["Rules"]
    equal(aws("elbv2", "describe-rules", "--rule-arns", rule)["Rules"], rules[:1], "the rule by its ARN")
    return rules


def rule_weights(rule: dict) -> list[int]:
    return [group["Weight"] for group in rule["Actions"][0]["ForwardConfig"]["TargetGroups"]]


@check
def an_ecs_deployment_waits_at_its_pause():
    seen = ecs_deployment()
    equal((seen["status"], seen["lifecycleStage"]), ("IN_PROGRESS", "POST_TEST_TRAFFIC_SHIFT"), "the deployment")
    configuration = seen["deploymentConfiguration"]
    equal(configuration["canaryConfiguration"], {"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 600}, "the canary")
    equal(configuration["lifecycleHooks"][0]["lifecycleStages"], ["POST_TEST_TRAFFIC_SHIFT"], "the hook's stages")
    hook = seen["lifecycleHookDetails"][0]
    equal((hook["hookId"], hook["status"]), ("ecs-pause-sample", "AWAITING_ACTION"), "the hook")
    green, [blue] = seen["targetServiceRevision"], seen["sourceServiceRevisions"]
    for side, test, production in [(green, 100.0, 0.0), (blue, 0.0, 100.0)]:
        weights = side["requestedTestTrafficWeight"], side["requestedProductionTrafficWeight"]
        equal(weights, (test, production), f"weights of {side['arn']}")
        equal((side["requestedTaskCount"], side["runningTaskCount"]), (2, 2), f"tasks of {side['arn']}")
    missing = aws("ecs", "describe-service-deployments", "--service-deployment-arns", ECS_DEPLOYMENT + "x")
    equal(missing["failures"][0]["reason"], "MISSING", "reason of an unknown deployment")


@check
def ecs_revisions_tell_where_their_tasks_are():
    seen = ecs_deployment()
    arns = [seen["targetServiceRevision"]["arn"], seen["sourceServiceRevisions"][0]["arn"]]
    answer = aws("ecs", "describe-service-revisions", "--service-revision-arns", *arns, arns[0] + "0")
    equal([each["reason"] for each in answer["failures"]], ["MISSING"], "failures")
    groups = [each["resolvedConfiguration"]["loadBalancers"][0]["targetGroupArn"] for each in answer["serviceRevisions"]]
    equal(["-two/" in groups[0], "-one/" in groups[1]], [True, True], "the target groups")
    for group in groups:
        described = aws("elbv2", "describe-target-health", "--target-group-arn", group)["TargetHealthDescriptions"]
        equal([each["TargetHealth"]["State"] for each in described], ["healthy"] * 2, f"states in {group}")


@check
def ecs_deployments_are_listed():
    def listed(*filters: str) -> list[str]:
        answer = aws("ecs", "list-service-deployments", *OF_ECS_SERVICE, *filters)
        return [each["serviceDeploymentArn"].rsplit("/", 1)[1] for each in answer["serviceDeployments"]]

    past = "PASTecslifecycle00000"
    equal(listed(), ["SampleDeployment00001", past], "all deployments")
    equal(listed("--status", "SUCCESSFUL"), [past], "those that succeeded")
    lately = (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat()
    equal(listed("--created-at", f"after={lately}"), ["SampleDeployment00001"], "those of now")
    unknown = ["ecs", "list-service-deployments", "--cluster", "lab", "--service", "nothing"]
    aws_refuses("ServiceNotFoundException", *unknown)


@check
def an_ecs_service_tells_its_tags_and_deployments():
    services = ["ecs", "describe-services", "--cluster", "lab", "--services", "ecs-lifecycle", "--include", "TAGS"]
    service = aws(*services)["services"][0]
    tags = [{"key": "shiftgate", "value": "watch"}]
    equal((service["tags"], service["deploymentController"]), (tags, {"type": "ECS"}), "the service")
    states = sorted((each["status"], each["rolloutState"]) for each in service["deployments"])
    equal(states, [("ACTIVE", "COMPLETED"), ("PRIMARY", "IN_PROGRESS")], "its deployments")
    equal(aws("ecs", "list-tags-for-resource", "--resource-arn", service["serviceArn"])["tags"], tags, "its tags")


@check
def rules_are_shown_with_their_conditions():
    rule, default = ecs_rules("test")
    equal((rule["Priority"], default["Priority"]), ("1", "default"), "priorities")
    [condition] = rule["Conditions"]
    header = {"HttpHeaderName": "x-release", "Values": ["green"]}
    equal((condition["Field"], condition["HttpHeaderConfig"]), ("http-header", header), "the condition")
    equal(rule_weights(rule), [0, 100], "weights of test traffic")
    equal(rule_weights(ecs_rules("production")[0]), [100, 0], "weights of production traffic")


@check
def init_writes_a_policy_that_is_valid():
    shiftgate = os.path.abspath("target/debug/shiftgate")
    with tempfile.TemporaryDirectory() as folder:
        for name in ["watch/watch-group", "lab/ecs-lifecycle"]:
            file = os.path.join(folder, name.replace("/", "-") + ".yaml")
            init = [shiftgate, "init", name, "--stack", "lab", "--out", file, "--json"]
            for command in [init, [shiftgate, "policy", "check", file]]:
                process = subprocess.run(command, capture_output=True, text=True, timeout=60)
                equal(process.returncode, 0, f"what {shlex.join(command)} ends with, saying {process.stderr.strip()},")


@check
def an_ecs_deployment_goes_on_and_is_stopped_once():
    goes_on = ["--service-deployment-arn", ECS_DEPLOYMENT, "--hook-id", "ecs-pause-sample", "--action", "CONTINUE"]
    aws("ecs", "continue-service-deployment", *goes_on)
    wait_for("canary step", 20, lambda: rule_weights(ecs_rules("production")[0]) == [90, 10])
    aws_refuses("InvalidParameterException", "ecs", "continue-service-deployment", *goes_on)
    stop = ["ecs", "stop-service-deployment", "--service-deployment-arn", ECS_DEPLOYMENT]
    equal(aws(*stop)["serviceDeploymentArn"], ECS_DEPLOYMENT, "what is stopped")
    aws_refuses("ConflictException", *stop)
    ended = wait_for("rollback", 20, lambda: (seen := ecs_deployment())["status"] == "ROLLBACK_SUCCESSFUL" and seen)
    equal(ended["rollback"]["serviceRevisionArn"], ended["sourceServiceRevisions"][0]["arn"], "who serves again")
    equal(rule_weights(ecs_rules("production")[0]), [100, 0], "weights after the rollback")
    aws_refuses("ConflictException", *stop)
    unknown = [*stop[:-1], ECS_DEPLOYMENT + "x"]
    aws_refuses("ServiceDeploymentNotFoundException", *unknown)


# ---- who hears of verdicts


@check
def events_are_taken_one_by_one() -> None:
    good = {"Source": "shop", "DetailType": "Sold", "Detail": json.dumps({"items": 1})}
    wrong = good | {"Detail": "no JSON"}
    answer = aws("events", "put-events", "--entries", json.dumps([good, wrong]))
    equal(answer["FailedEntryCount"], 1, "number of refused entries")
    equal([entry.get("ErrorCode") for entry in answer["Entries"]], [None, "MalformedDetail"], "codes")


@check
def topics_and_buckets_are_those_of_the_template() -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:lab-VerdictTopic"
    holds(bool(aws("sns", "publish", "--topic-arn", topic, "--subject", "s", "--message", "m")["MessageId"]), "no id")
    aws_refuses("NotFound", "sns", "publish", "--topic-arn", topic + "x", "--message", "m")
    aws_refuses("InvalidParameter", "sns", "publish", "--topic-arn", topic, "--subject", "two\nlines", "--message", "m")
    place = ["--bucket", "lab-reportbucket", "--key", "reports/a b.json"]
    aws("s3api", "put-object", *place, "--body", "docs/verdict-event.json", "--content-type", "application/json")
    with tempfile.NamedTemporaryFile() as file:
        equal(aws("s3api", "get-object", *place, file.name)["ContentType"], "application/json", "type of the object")
        equal(json.load(open(file.name)), json.load(open("docs/verdict-event.json")), "the object")
        aws_refuses("NoSuchKey", "s3api", "get-object", *place[:3], "nothing", file.name)
    aws_refuses("NoSuchBucket", "s3api", "put-object", "--bucket", "others", *place[2:])


# ---- the run


@contextmanager
def serving():
    """Runs `serve`, and takes over the variables that it prints until it is ready."""
    server = subprocess.Popen(["target/debug/shiftgate", "serve"], stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            if line.startswith("export "):
                # As a shell reads the line.
                name, value = shlex.split(line.removeprefix("export "))[0].split("=", 1)
                os.environ[name] = value
            if "ready" in line:
                break
        else:
            raise SystemExit(f"serve ended with {server.wait()} before it was ready")
        yield
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


def clean_environment() -> None:
    """Nothing that the caller has set up for AWS may reach a check, and no check may wait long."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
    }


def too_long(*_):
    raise TimeoutError(f"not done within {LONGEST_SECONDS} s")


def run_checks() -> int:
    failures = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok      {name}", flush=True)
        except TimeoutError:
            raise
        except Exception as error:  # an answer of another form (KeyError) is a failed check like any other
            failures += 1
            print(f"FAILED  {name}\n        {type(error).__name__}: {error}", flush=True)
    print(f"{len(CHECKS) - failures} passed, {failures} failed")
    return 1 if failures else 0


def main() -> int:
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST_SECONDS)
    clean_environment()
    with serving():
        result = run_checks()
        signal.alarm(0)
        return result


if __name__ == "__main__":
    sys.exit(main())
