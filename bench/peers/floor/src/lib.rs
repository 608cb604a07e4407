//! The least that a hook in Rust can do: the calls of AWS that Shiftgate's hooks make, one after the other, and nothing that looks
//! at what they say.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use aws_sdk_codedeploy::types::LifecycleEventStatus;
use aws_sdk_elasticloadbalancingv2::types::LoadBalancer;
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

/// The policy's period where `bench functions` measures, in seconds.
const PERIOD_S: i32 = 5;
/// Complete periods of the hour before, with that policy.
const PERIODS: i64 = 58;

/// The clients, over Shiftgate's own HTTP client: AWS's is larger, and slower to start.
#[derive(Debug)]
pub struct Clients {
    codedeploy: aws_sdk_codedeploy::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    ssm: aws_sdk_ssm::Client,
    states: aws_sdk_sfn::Client,
    http: reqwest::Client,
}

/// What is deployed.
#[derive(Debug)]
pub struct Rollout {
    target_groups: Vec<String>,
    balancer: LoadBalancer,
    balancer_arn: String,
    smoke_url: String,
}

/// Runs a hook: discover, the `check`, report.
pub async fn serve(check: impl AsyncFn(&Clients, &Rollout, &str) -> Result<(), Error>) -> Result<(), Error> {
    let config = shiftgate::aws::configuration();
    let clients = Clients {
        codedeploy: aws_sdk_codedeploy::Client::new(&config),
        cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
        elb: aws_sdk_elasticloadbalancingv2::Client::new(&config),
        ssm: aws_sdk_ssm::Client::new(&config),
        states: aws_sdk_sfn::Client::new(&config),
        http: reqwest::Client::new(),
    };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let id = event.payload["DeploymentId"].as_str().unwrap_or_default();
        check(&clients, &clients.discover(id).await?, id).await?;
        clients
            .codedeploy
            .put_lifecycle_event_hook_execution_status()
            .deployment_id(id)
            .set_lifecycle_event_hook_execution_id(
                event.payload["LifecycleEventHookExecutionId"].as_str().map(str::to_owned),
            )
            .status(LifecycleEventStatus::Succeeded)
            .send()
            .await?;
        Ok::<_, Error>(Value::Null)
    }))
    .await
}

impl Clients {
    async fn discover(&self, id: &str) -> Result<Rollout, Error> {
        let answer = self.codedeploy.get_deployment().deployment_id(id).send().await?;
        let deployment = found(answer.deployment_info)?;
        let targets = self.codedeploy.list_deployment_targets().deployment_id(id).send().await?;
        let (application, group) =
            (found(deployment.application_name)?, found(deployment.deployment_group_name)?);
        let answer = self
            .codedeploy
            .get_deployment_group()
            .application_name(&application)
            .deployment_group_name(&group)
            .send()
            .await?;
        let balancing = found(answer.deployment_group_info.and_then(|it| it.load_balancer_info))?;
        let policy = self.ssm.get_parameters().names(format!("/shiftgate/{application}/{group}"));
        policy.names("/shiftgate/default").send().await?;
        let target = found(targets.target_ids().first())?;
        self.codedeploy.get_deployment_target().deployment_id(id).target_id(target).send().await?;

        let pair = found(balancing.target_group_pair_info_list().first())?;
        let names: Vec<String> = pair.target_groups().iter().filter_map(|it| it.name.clone()).collect();
        let answer = self.elb.describe_target_groups().set_names(Some(names)).send().await?;
        let target_groups: Vec<String> = answer
            .target_groups()
            .iter()
            .filter_map(|it| Some(it.target_group_arn()?.rsplit_once(':')?.1.to_owned()))
            .collect();
        let path = found(answer.target_groups().first().and_then(|it| it.health_check_path.clone()))?;
        let routes = [pair.prod_traffic_route(), pair.test_traffic_route()];
        let listeners = routes.into_iter().flatten().flat_map(|route| route.listener_arns().to_vec());
        let answer =
            self.elb.describe_listeners().set_listener_arns(Some(listeners.collect())).send().await?;
        let test = found(answer.listeners().last())?;
        let balancer_arn = found(test.load_balancer_arn.clone())?;
        let answer = self.elb.describe_load_balancers().load_balancer_arns(&balancer_arn).send().await?;
        let balancer = found(answer.load_balancers().first())?.clone();
        let (name, port) = (found(balancer.dns_name())?, found(test.port)?);
        let smoke_url = format!("http://{name}:{port}{path}");
        Ok(Rollout { target_groups, balancer, balancer_arn, smoke_url })
    }

    /// So many requests to green, one after the other.
    pub async fn smoke(&self, rollout: &Rollout, requests: usize) -> Result<(), Error> {
        for _ in 0..requests {
            self.http.get(&rollout.smoke_url).send().await?.bytes().await?;
        }
        Ok(())
    }

    /// The queries of Shiftgate's look before the shift, with its built-in gates: requests, server errors and connection errors
    /// of both colours and of each zone of blue's.
    pub async fn metrics(&self, rollout: &Rollout) -> Result<(), Error> {
        let balancer = found(rollout.balancer_arn.split_once("loadbalancer/"))?.1;
        let zones = rollout.balancer.availability_zones().iter().filter_map(|zone| zone.zone_name());
        let blue = found(rollout.target_groups.first())?;
        let sides = rollout.target_groups.iter().map(|group| (group, None));
        let sides = sides.chain(zones.map(|zone| (blue, Some(zone))));
        let metrics = ["RequestCount", "HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount"];
        let queries = sides
            .flat_map(|side| metrics.map(|metric| (metric, side)))
            .enumerate()
            .map(|(number, (metric, (group, zone)))| query(number, metric, balancer, group, zone));
        #[expect(clippy::disallowed_methods, reason = "the function has no other clock")]
        let end = Timestamp::now();
        let start = end - SignedDuration::from_secs(PERIODS * i64::from(PERIOD_S));
        self.cloudwatch
            .get_metric_data()
            .set_metric_data_queries(Some(queries.collect()))
            .start_time(DateTime::from_millis(start.as_millisecond()))
            .end_time(DateTime::from_millis(end.as_millisecond()))
            .send()
            .await?;
        Ok(())
    }

    /// Starts the watch, under the deployment's name.
    pub async fn start_watch(&self, machine: &str, id: &str) -> Result<(), Error> {
        self.states.start_execution().state_machine_arn(machine).name(id).input("{}").send().await?;
        Ok(())
    }
}

fn query(number: usize, metric: &str, balancer: &str, group: &str, zone: Option<&str>) -> MetricDataQuery {
    let dimensions =
        [("LoadBalancer", Some(balancer)), ("TargetGroup", Some(group)), ("AvailabilityZone", zone)];
    let dimensions = dimensions
        .into_iter()
        .filter_map(|(name, value)| Some(Dimension::builder().name(name).value(value?).build()));
    let metric = Metric::builder()
        .namespace("AWS/ApplicationELB")
        .metric_name(metric)
        .set_dimensions(Some(dimensions.collect()))
        .build();
    let stat = MetricStat::builder().metric(metric).period(PERIOD_S).stat("Sum").build();
    MetricDataQuery::builder().id(format!("q{number}")).metric_stat(stat).return_data(true).build()
}

/// Without it nothing can be called.
fn found<T>(part: Option<T>) -> Result<T, Error> {
    part.ok_or_else(|| "an answer of AWS lacks what the next call needs".into())
}
