//! The list is the one truth: what can be set is in it, and what is in it can be set.

use serde_json::json;

use super::*;
use crate::scenario::Scenario;

#[test]
fn every_setting_of_the_list_can_be_set_and_no_other() {
    let usual = serde_json::to_value(Doubts::default()).unwrap();
    let mut listed: Vec<&str> = Doubt::ALL.iter().map(|doubt| doubt.name).collect();
    listed.sort_unstable();
    let fields: Vec<&str> = usual.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, listed);
    for doubt in &Doubt::ALL {
        assert!(doubt.question.ends_with('?') && doubt.settings.len() > 1, "{}", doubt.name);
        assert_eq!(usual[doubt.name], doubt.settings[0], "{}: the usual one is first", doubt.name);
        for setting in doubt.settings {
            let choice: Choice = format!("{}={setting}", doubt.name).parse().unwrap();
            assert_eq!(Doubts::default().with(choice).setting(doubt), *setting, "{}", doubt.name);
        }
        // Serde names all that there are when it meets another.
        let unknown = serde_json::from_value::<Doubts>(json!({doubt.name: "?"})).unwrap_err().to_string();
        let known = unknown.matches('`').count() / 2 - 1;
        assert_eq!(known, doubt.settings.len(), "{}: {unknown}", doubt.name);
    }
}

#[test]
fn a_choice_that_is_not_in_the_list_is_told_with_what_there_is() {
    let told = |text: &str| text.parse::<Choice>().unwrap_err();
    assert_eq!(told("production_hook"), "write it as NAME=SETTING");
    assert!(told("producton_hook=x").contains("there are rollback_hooks, "), "{}", told("producton_hook=x"));
    assert_eq!(
        told("production_hook=later"),
        "production_hook has no setting later; it has after_shift, before_shift, after_bake"
    );
}

#[test]
fn what_is_expected_may_depend_on_a_setting() {
    let text = "about: x\ndoubts: {hook_details: never}\nexpect: {status: Succeeded}\n\
                under: {production_hook=before_shift: {status: Stopped}}\n";
    let scenario = Scenario::read(text).unwrap();
    let under = |choice: &str| {
        let scenario = scenario.in_doubt(choice.parse().unwrap());
        (scenario.expect.unwrap().status, scenario.doubts)
    };
    let (status, doubts) = under("production_hook=before_shift");
    assert_eq!((status.as_str(), doubts.production_hook), ("Stopped", ProductionHook::BeforeShift));
    assert_eq!(doubts.hook_details, HookDetails::Never, "what the file says stays");
    assert_eq!(under("production_hook=after_bake").0, "Succeeded");

    let wrong = Scenario::read(&text.replace("before_shift", "sometimes")).unwrap_err();
    assert!(wrong[0].what.contains("it has after_shift"), "{wrong:?}");
    let wrong = Scenario::read(&text.replace("Stopped", "fine")).unwrap_err();
    assert_eq!(wrong[0].key, "expect.status");
}

#[test]
fn a_scenario_is_played_under_the_settings_that_it_does_not_have() {
    let names = |text: &str| {
        let scenario = Scenario::read(&format!("about: x\nexpect: {{status: Succeeded}}\n{text}")).unwrap();
        let doubts = Doubt::ALL.iter().filter(|doubt| doubt.can_matter_for(&scenario));
        let named = Doubt::ALL.iter().find(|doubt| doubt.name == "hook_details").unwrap();
        let own = Doubt::named(named.name).unwrap();
        let others: Vec<String> = own.others(&scenario).map(|choice| choice.to_string()).collect();
        (doubts.map(|doubt| doubt.name).collect::<Vec<_>>(), others)
    };
    let (by_ecs, others) = names("controller: ecs\ndoubts: {hook_details: never}\n");
    assert!(by_ecs.contains(&"production_hook") && !by_ecs.contains(&"hook_delivery"), "{by_ecs:?}");
    assert_eq!(others, ["hook_details=whole_deployment", "hook_details=within_stage"]);
    let (of_function, _) = names("controller: lambda\n");
    assert!(of_function.contains(&"version_metrics") && !of_function.contains(&"trimmed_counts"));
    let (rolling, _) = names("controller: ecs\nshift: {rolling: true}\n");
    assert_eq!(rolling, ["metric_values"]);
}
