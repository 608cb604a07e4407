// BeforeAllowTraffic: the error rates of the last hour.
import { CloudWatchClient, GetMetricDataCommand } from "@aws-sdk/client-cloudwatch";

import { report, targetGroups } from "../rollout.mjs";

const HOUR_MS = 3_600_000;
const MINUTE_S = 60;
const ERROR_RATE_LIMIT = 0.05;

const cloudwatch = new CloudWatchClient({});

export const handler = (event) => report(event, errorRates);

async function errorRates({ green, blue, productionListener }) {
  const groups = await targetGroups([green, blue]);
  // arn:...:listener/app/NAME/ID/LISTENER
  const balancer = productionListener.split(":listener/")[1].split("/").slice(0, 3).join("/");
  const query = (id, metric, group) => ({
    Id: id,
    MetricStat: {
      Metric: {
        Namespace: "AWS/ApplicationELB",
        MetricName: metric,
        Dimensions: [
          { Name: "LoadBalancer", Value: balancer },
          { Name: "TargetGroup", Value: group.TargetGroupArn.split(":").at(-1) },
        ],
      },
      Period: MINUTE_S,
      Stat: "Sum",
    },
  });
  const now = Date.now();
  const { MetricDataResults } = await cloudwatch.send(
    new GetMetricDataCommand({
      StartTime: new Date(now - HOUR_MS),
      EndTime: new Date(now),
      MetricDataQueries: groups.flatMap((group, index) => [
        query(`requests${index}`, "RequestCount", group),
        query(`errors${index}`, "HTTPCode_Target_5XX_Count", group),
      ]),
    }),
  );
  const sum = (id) =>
    MetricDataResults.find((result) => result.Id === id).Values.reduce((total, value) => total + value, 0);
  return groups.flatMap((group, index) => {
    const [requests, errors] = [sum(`requests${index}`), sum(`errors${index}`)];
    const rate = requests > 0 ? errors / requests : 0;
    return rate > ERROR_RATE_LIMIT ? [`${group.TargetGroupName}: ${100 * rate} % errors`] : [];
  });
}
