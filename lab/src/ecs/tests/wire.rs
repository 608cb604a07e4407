//! The API: what is described, listed and refused.

use super::*;

#[tokio::test(start_paused = true)]
async fn deployments_are_described_and_what_is_missing_is_a_failure() {
    let world = World::new(
        |service| {
            everywhere(service);
            service.strategy = Strategy::Linear { step_percent: 50.0, step_bake_minutes: 6.0 };
            service.hooks[0].details = Some(json!({"policy": "strict"}));
            service.tags = vec![("team".to_owned(), "shop".to_owned())];
            service.service_connect = Some(json!({"enabled": true, "namespace": "lab"}));
        },
        |_, _| succeeded(),
    )
    .await;
    let record = world.play().await.record;
    let unknown = record.arn.clone() + "x";
    let input = json!({"serviceDeploymentArns": [record.arn, unknown]});
    let answer = world.call("DescribeServiceDeployments", &input).unwrap();
    assert_eq!(answer["failures"], json!([{"arn": unknown, "reason": "MISSING"}]));
    let [about] = answer["serviceDeployments"].as_array().unwrap().as_slice() else {
        panic!("one deployment")
    };
    assert_eq!(about["status"], "SUCCESSFUL");
    assert_eq!(about["targetServiceRevision"]["requestedProductionTrafficWeight"], 100.0);
    assert_eq!(about["targetServiceRevision"]["runningTaskCount"], 2);
    assert_eq!(about["sourceServiceRevisions"][0]["runningTaskCount"], 0);
    let configuration = &about["deploymentConfiguration"];
    assert_eq!(
        configuration["linearConfiguration"],
        json!({"stepPercent": 50.0, "stepBakeTimeInMinutes": 6})
    );
    assert_eq!(configuration["lifecycleHooks"][0]["hookDetails"], json!({"policy": "strict"}));
    assert_eq!(about["lifecycleHookDetails"][0]["status"], "SUCCEEDED");
    let times = ["createdAt", "startedAt", "updatedAt", "finishedAt"].map(|key| about[key].as_f64().unwrap());
    assert!(times[0] <= times[1] && times[1] <= times[3] && times[0] > 1e9, "{times:?}");

    let too_many = json!({"serviceDeploymentArns": vec!["arn"; 21]});
    assert_eq!(
        world.call("DescribeServiceDeployments", &too_many),
        Err("InvalidParameterException".to_owned())
    );
    let revisions = json!({"serviceRevisionArns": [record.target.revision, "arn:none"]});
    let answer = world.call("DescribeServiceRevisions", &revisions).unwrap();
    assert_eq!(answer["failures"], json!([{"arn": "arn:none", "reason": "MISSING"}]));
    let about = &answer["serviceRevisions"][0];
    assert!(about["taskDefinition"].as_str().unwrap().ends_with(":task-definition/shop:2"), "{about}");
    assert_eq!(about["serviceConnectConfiguration"]["namespace"], "lab");
    assert_eq!(about["loadBalancers"], json!([]));

    let services = json!({"cluster": "lab", "services": ["shop", "bakery"], "include": ["TAGS"]});
    let answer = world.call("DescribeServices", &services).unwrap();
    assert_eq!(answer["failures"][0]["reason"], "MISSING");
    let about = &answer["services"][0];
    assert_eq!(about["tags"], json!([{"key": "team", "value": "shop"}]));
    assert_eq!(about["deploymentController"], json!({"type": "ECS"}));
    assert_eq!(about["deployments"][0]["rolloutState"], "COMPLETED");
    let tags = world.call("ListTagsForResource", &json!({"resourceArn": about["serviceArn"]})).unwrap();
    assert_eq!(tags["tags"], about["tags"]);
    for (operation, input, error) in [
        ("DescribeServices", json!({"services": ["shop"]}), "ClusterNotFoundException"),
        ("DescribeServices", json!({"cluster": "lab"}), "InvalidParameterException"),
        ("ListServiceDeployments", json!({"cluster": "lab", "service": "x"}), "ServiceNotFoundException"),
        ("ListTagsForResource", json!({"resourceArn": "arn:none"}), "InvalidParameterException"),
        ("StopServiceDeployment", json!({"serviceDeploymentArn": "x"}), "ServiceDeploymentNotFoundException"),
        (
            "StopServiceDeployment",
            json!({"serviceDeploymentArn": "x", "stopType": "NOW"}),
            "InvalidParameterException",
        ),
        ("UpdateService", json!({}), "UnknownOperationException"),
    ] {
        assert_eq!(world.call(operation, &input), Err(error.to_owned()), "{operation} {input}");
    }
}

#[tokio::test(start_paused = true)]
async fn deployments_are_listed_by_status_and_time() {
    let world = World::new(everywhere, |event, before| {
        // The second deployment fails.
        if before > 7 && is_at(event, Stage::PostScaleUp) { failed() } else { succeeded() }
    })
    .await;
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    let past = world.ecs.past("lab", "shop", "PAST", at).unwrap();
    world.ecs.add_past(past.clone());
    let good = world.play().await.record;
    let bad = world.play().await.record;
    let list = |filter: Value| {
        let mut input =
            json!({"cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/lab", "service": "shop"});
        input.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        let answer = world.call("ListServiceDeployments", &input).unwrap();
        let arns = answer["serviceDeployments"].as_array().unwrap().iter();
        (
            arns.map(|about| about["serviceDeploymentArn"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
            answer,
        )
    };
    let (all, _) = list(json!({}));
    assert_eq!(all.len(), 3);
    assert_eq!(all[2], past.arn, "the newest come first");
    assert_eq!(list(json!({"status": ["ROLLBACK_SUCCESSFUL"]})).0, [bad.arn]);
    assert_eq!(list(json!({"createdAt": {"before": 1_700_000_001}})).0, [past.arn]);
    assert!(list(json!({"createdAt": {"after": 1_700_000_001}, "status": ["SUCCESSFUL"]})).0 == [good.arn]);
    let (first, answer) = list(json!({"maxResults": 2}));
    let (rest, _) = list(json!({"maxResults": 2, "nextToken": answer["nextToken"]}));
    assert_eq!([first, rest].concat(), all);
}

#[tokio::test(start_paused = true)]
async fn a_service_tells_what_is_being_deployed() {
    let world = World::new(
        |service| service.hooks = vec![EcsHook::function("gate", &[Stage::PostScaleUp])],
        |_, before| if before == 0 { Ok(json!({"hookStatus": "IN_PROGRESS"})) } else { succeeded() },
    )
    .await;
    let mut seen = Value::Null;
    world
        .play_with(|happening, _| {
            if let EcsHappening::HookAnswered { .. } = happening
                && seen.is_null()
            {
                assert_eq!(world.ecs.deploy("lab", "shop", None).unwrap_err().code, "ClientException");
                seen =
                    world.call("DescribeServices", &json!({"cluster": "lab", "services": ["shop"]})).unwrap();
            }
        })
        .await;
    let about = &seen["services"][0];
    assert!(about["currentServiceDeployment"].as_str().unwrap().contains(":service-deployment/lab/shop/"));
    let deployments = about["deployments"].as_array().unwrap();
    let mut told: Vec<_> = deployments
        .iter()
        .map(|deployment| {
            (deployment["status"].as_str().unwrap(), deployment["rolloutState"].as_str().unwrap())
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("ACTIVE", "COMPLETED"), ("PRIMARY", "IN_PROGRESS")]);
    assert_eq!((&about["desiredCount"], &about["runningCount"]), (&json!(2), &json!(4)));
}
