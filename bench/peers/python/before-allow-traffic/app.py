"""BeforeAllowTraffic: the error rates of the last hour."""

from datetime import datetime, timedelta, timezone

import boto3

from rollout import report, target_groups

HOUR = timedelta(hours=1)
MINUTE_S = 60
ERROR_RATE_LIMIT = 0.05

cloudwatch = boto3.client("cloudwatch")


def handler(event, context):
    return report(event, error_rates)


def error_rates(rollout):
    groups = target_groups([rollout["green"], rollout["blue"]])
    # arn:...:listener/app/NAME/ID/LISTENER
    balancer = "/".join(rollout["production_listener"].split(":listener/")[1].split("/")[:3])

    def query(name, metric, group):
        dimensions = {"LoadBalancer": balancer, "TargetGroup": group["TargetGroupArn"].split(":")[-1]}
        return {
            "Id": name,
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/ApplicationELB",
                    "MetricName": metric,
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                },
                "Period": MINUTE_S,
                "Stat": "Sum",
            },
        }

    now = datetime.now(timezone.utc)
    queries = [
        query(f"{name}{index}", metric, group)
        for index, group in enumerate(groups)
        for name, metric in (("requests", "RequestCount"), ("errors", "HTTPCode_Target_5XX_Count"))
    ]
    results = cloudwatch.get_metric_data(StartTime=now - HOUR, EndTime=now, MetricDataQueries=queries)
    sums = {result["Id"]: sum(result["Values"]) for result in results["MetricDataResults"]}
    rates = [
        (group["TargetGroupName"], sums[f"errors{index}"] / max(sums[f"requests{index}"], 1))
        for index, group in enumerate(groups)
    ]
    return [f"{name}: {100 * rate} % errors" for name, rate in rates if rate > ERROR_RATE_LIMIT]
