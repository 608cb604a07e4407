//! `verdicts`: the ledger of an account, read from the log.

use std::time::Duration;

use anyhow::Result;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde_json::json;

use super::backtest::since;
use crate::account::Account;
use crate::ledger::{self, Verdict};
use crate::show::{self, Spinner};

/// Which verdicts.
#[derive(clap::Args)]
pub struct Arguments {
    /// How far back, as in 30d, 12h or 90m; the log keeps them for as long as the stack says
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = since)]
    since: Duration,
    /// Only this stack of Shiftgate; all that the account has without it
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Reads and prints them, oldest first.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let since = ledger::ago(arguments.since)?;
    let account = Account::from_environment().await;
    let mut spinner = Spinner::new();
    let groups = ledger::groups(&account, arguments.stack.as_deref()).await?;
    let read = ledger::read(&account, &groups, r#"{ $.message = "verdict" }"#, since, &mut spinner).await?;
    spinner.finish();
    let mut verdicts: Vec<Verdict> = read.lines.iter().filter_map(Verdict::of).collect();
    // Two functions at once may log in another order than they came to their verdicts.
    verdicts.sort_by_key(|verdict| verdict.at);
    if arguments.json {
        let all: Vec<_> = verdicts.iter().map(Verdict::json).collect();
        let object = json!({"since": since.to_string(), "verdicts": all, "notes": read.notes});
        show::line(&serde_json::to_string_pretty(&object)?);
        return Ok(true);
    }
    show::line(&text(&verdicts));
    read.notes.iter().for_each(|note| show::error(note));
    Ok(true)
}

fn text(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return "no verdicts: nothing was deployed in this time, or --since is longer than the log is kept"
            .to_owned();
    }
    let failed = verdicts.iter().filter(|verdict| verdict.answer == "Failed").count();
    let would = verdicts.iter().filter(|verdict| verdict.would_have_rolled_back).count();
    let observed = if would == 0 {
        String::new()
    } else {
        format!(", {would} more would have failed but for `mode: observe`")
    };
    format!("{}\n{} verdicts, {failed} of them Failed{observed}", table(verdicts), verdicts.len())
}

fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled).set_header([
        "time (UTC)",
        "application/group",
        "deployment",
        "stage",
        "answer",
        "outcome",
        "reason",
    ]);
    for verdict in verdicts {
        table.add_row([
            verdict.at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            format!("{}/{}", verdict.application, verdict.group),
            show::last_part(&verdict.deployment).to_owned(),
            verdict.stage.clone(),
            verdict.came_to(),
            verdict.outcome.clone(),
            verdict.reason.replace('\n', " "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ledger::Line;

    fn verdict(said: Value) -> Verdict {
        Verdict::of(&Line { at: "2026-11-02T09:00:00.5Z".parse().unwrap(), said }).unwrap()
    }

    #[test]
    fn the_ledger_says_what_was_told_and_what_would_have_been() {
        let good = json!({
            "message": "verdict", "deployment_id": "d-0B7YUA91L", "stage": "before-install",
            "application": "shop", "deployment_group": "orders", "outcome": "pass", "answer": "Succeeded",
            "reason": "all 3 checks passed",
        });
        let mut observed = good.clone();
        observed["stage"] = json!("watch");
        observed["outcome"] = json!("fail");
        observed["reason"] = json!("server errors: green 3 %\nbeside blue's 0 %");
        observed["would_have_rolled_back"] = json!(true);
        let ecs = json!({
            "message": "verdict", "stage": "PRODUCTION_TRAFFIC_SHIFT", "outcome": "fail", "answer": "Failed",
            "deployment_id": "arn:aws:ecs:eu-west-1:123456789012:service-deployment/shop/orders/j1zTq01GOriPdqZ4l8ohv",
            "application": "shop", "deployment_group": "orders", "reason": "green is down",
        });
        insta::assert_snapshot!(text(&[good, observed, ecs].map(verdict)));
    }

    #[test]
    fn no_verdicts_are_no_empty_table() {
        assert!(text(&[]).starts_with("no verdicts: "));
    }
}
