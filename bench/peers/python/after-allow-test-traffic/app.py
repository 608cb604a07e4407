"""AfterAllowTestTraffic: requests to green through the test listener."""

import urllib3

from rollout import elb, report, target_groups

REQUESTS = 20
TIMEOUT_S = 2

http = urllib3.PoolManager()


def handler(event, context):
    return report(event, smoke)


def smoke(rollout):
    listener = elb.describe_listeners(ListenerArns=[rollout["test_listener"]])["Listeners"][0]
    balancer = elb.describe_load_balancers(LoadBalancerArns=[listener["LoadBalancerArn"]])["LoadBalancers"][0]
    [group] = target_groups([rollout["green"]])
    url = f"http://{balancer['DNSName']}:{listener['Port']}{group['HealthCheckPath']}"
    statuses = [http.request("GET", url, timeout=TIMEOUT_S, retries=False).status for _ in range(REQUESTS)]
    return [f"request {number}: {status}" for number, status in enumerate(statuses, 1) if status != 200]
