// AfterAllowTestTraffic: requests to green through the test listener.
import {
  DescribeListenersCommand,
  DescribeLoadBalancersCommand,
} from "@aws-sdk/client-elastic-load-balancing-v2";

import { elb, report, targetGroups } from "../rollout.mjs";

const REQUESTS = 20;
const TIMEOUT_MS = 2000;

export const handler = (event) => report(event, smoke);

async function smoke({ green, testListener }) {
  const { Listeners } = await elb.send(new DescribeListenersCommand({ ListenerArns: [testListener] }));
  const { LoadBalancers } = await elb.send(
    new DescribeLoadBalancersCommand({ LoadBalancerArns: [Listeners[0].LoadBalancerArn] }),
  );
  const [group] = await targetGroups([green]);
  const url = `http://${LoadBalancers[0].DNSName}:${Listeners[0].Port}${group.HealthCheckPath}`;
  const problems = [];
  for (let request = 1; request <= REQUESTS; request += 1) {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    await response.text();
    if (response.status !== 200) {
      problems.push(`request ${request}: ${response.status}`);
    }
  }
  return problems;
}
