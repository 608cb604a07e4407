"""What both hooks share: the clients, what is deployed, and the report. Clients are made once, outside the handlers, as
AWS recommends: warm invocations use their connections again."""

import json

import boto3

codedeploy = boto3.client("codedeploy")
elb = boto3.client("elbv2")


def discover(deployment_id):
    """The group's listeners, and the names of the target groups of both colours."""
    deployment = codedeploy.get_deployment(deploymentId=deployment_id)["deploymentInfo"]
    group = codedeploy.get_deployment_group(
        applicationName=deployment["applicationName"], deploymentGroupName=deployment["deploymentGroupName"]
    )["deploymentGroupInfo"]
    service = group["ecsServices"][0]
    target = codedeploy.get_deployment_target(
        deploymentId=deployment_id, targetId=f"{service['clusterName']}:{service['serviceName']}"
    )["deploymentTarget"]["ecsTarget"]
    pair = group["loadBalancerInfo"]["targetGroupPairInfoList"][0]
    green = next(
        task_set["targetGroup"]["name"]
        for task_set in target["taskSetsInfo"]
        if task_set["taskSetLabel"] == "Green"
    )
    return {
        "green": green,
        "blue": next(each["name"] for each in pair["targetGroups"] if each["name"] != green),
        "production_listener": pair["prodTrafficRoute"]["listenerArns"][0],
        "test_listener": pair["testTrafficRoute"]["listenerArns"][0],
    }


def target_groups(names):
    found = {
        group["TargetGroupName"]: group for group in elb.describe_target_groups(Names=names)["TargetGroups"]
    }
    return [found[name] for name in names]


def report(event, check):
    """Runs a check and tells CodeDeploy whether it found nothing wrong; a check that raises has failed."""
    try:
        problems = check(discover(event["DeploymentId"]))
    except Exception as error:
        problems = [repr(error)]
    status = "Failed" if problems else "Succeeded"
    print(json.dumps({"deployment_id": event["DeploymentId"], "status": status, "problems": problems}))
    codedeploy.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status=status,
    )
    return {"status": status, "problems": problems}
