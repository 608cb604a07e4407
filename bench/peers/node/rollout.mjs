// What both hooks share: the clients, what is deployed, and the report. Clients are made once, outside the handlers, as
// AWS recommends: warm invocations use their connections again.
import {
  CodeDeployClient,
  GetDeploymentCommand,
  GetDeploymentGroupCommand,
  GetDeploymentTargetCommand,
  PutLifecycleEventHookExecutionStatusCommand,
} from "@aws-sdk/client-codedeploy";
import {
  DescribeTargetGroupsCommand,
  ElasticLoadBalancingV2Client,
} from "@aws-sdk/client-elastic-load-balancing-v2";

export const codedeploy = new CodeDeployClient({});
export const elb = new ElasticLoadBalancingV2Client({});

// The group's listeners, and the names of the target groups of both colours.
export async function discover(deploymentId) {
  const { deploymentInfo } = await codedeploy.send(new GetDeploymentCommand({ deploymentId }));
  const { deploymentGroupInfo } = await codedeploy.send(
    new GetDeploymentGroupCommand({
      applicationName: deploymentInfo.applicationName,
      deploymentGroupName: deploymentInfo.deploymentGroupName,
    }),
  );
  const { clusterName, serviceName } = deploymentGroupInfo.ecsServices[0];
  const { deploymentTarget } = await codedeploy.send(
    new GetDeploymentTargetCommand({ deploymentId, targetId: `${clusterName}:${serviceName}` }),
  );
  const pair = deploymentGroupInfo.loadBalancerInfo.targetGroupPairInfoList[0];
  const names = pair.targetGroups.map((group) => group.name);
  const sets = deploymentTarget.ecsTarget.taskSetsInfo;
  const green = sets.find((set) => set.taskSetLabel === "Green").targetGroup.name;
  return {
    green,
    blue: names.find((name) => name !== green),
    productionListener: pair.prodTrafficRoute.listenerArns[0],
    testListener: pair.testTrafficRoute.listenerArns[0],
  };
}

export async function targetGroups(names) {
  const { TargetGroups } = await elb.send(new DescribeTargetGroupsCommand({ Names: names }));
  return names.map((name) => TargetGroups.find((group) => group.TargetGroupName === name));
}

// Runs a check and tells CodeDeploy whether it found nothing wrong; a check that throws has failed.
export async function report(event, check) {
  let problems;
  try {
    problems = await check(await discover(event.DeploymentId));
  } catch (error) {
    problems = [String(error)];
  }
  const status = problems.length === 0 ? "Succeeded" : "Failed";
  console.log(JSON.stringify({ deploymentId: event.DeploymentId, status, problems }));
  await codedeploy.send(
    new PutLifecycleEventHookExecutionStatusCommand({
      deploymentId: event.DeploymentId,
      lifecycleEventHookExecutionId: event.LifecycleEventHookExecutionId,
      status,
    }),
  );
  return { status, problems };
}
