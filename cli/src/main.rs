//! The command line: try Shiftgate, play scenarios, serve the lab, check policies, without an AWS account; and ask an
//! account what Shiftgate did in it.

mod account;
mod commands;
mod folder;
mod functions;
mod ledger;
mod next;
mod panel;
mod past;
mod plot;
mod show;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use shiftgate_lab::doubts::Choice;
use shiftgate_lab::scenario::Way;

/// What `--help` says of how the program ends.
const EXIT_CODES: &str = "Exit codes: 0 the answer is good, or there is none; 1 the answer is bad, as a problem that doctor found, an invalid policy or a \
    scenario with another outcome; 2 it could not be done, and standard error says why.";

/// Gates for deployments on AWS, by CodeDeploy and by ECS itself: try them here, and ask an account about them
#[derive(Parser)]
#[command(name = "shiftgate", version, propagate_version = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The folder with the function binaries; without it they are built
    #[arg(long, global = true, value_name = "DIR")]
    functions: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Watch a canary release of a broken version being caught and rolled back
    Try {
        /// Another scenario than that, by its name, such as "shared-incident"; `--list` prints them
        scenario: Option<String>,
        /// Who carries the deployment out
        #[arg(long, value_enum, default_value_t = Controller::Codedeploy, conflicts_with = "scenario")]
        controller: Controller,
        #[command(flatten)]
        how: commands::trial::How,
        /// Print the scenarios, and what each is about
        #[arg(long, exclusive = true)]
        list: bool,
    },
    /// Play scenarios and compare what comes of them with what they expect
    Run {
        /// Scenario files
        #[arg(required_unless_present = "list_doubts")]
        scenarios: Vec<PathBuf>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Scenarios at the same time
        #[arg(long, default_value_t = 4)]
        jobs: usize,
        /// Play what did not end as it must so many times more; the judge may err, by chance, as often as its policy lets it
        #[arg(long, default_value_t = 0, conflicts_with = "doubts")]
        retries: usize,
        /// Play each in this way of deploying, whatever the file says; with "all", print a table of all ways
        #[arg(long, value_enum, value_name = "WAY")]
        way: Option<Ways>,
        /// Play each in a world that answers a question about AWS in this way; may be given several times
        #[arg(long, value_name = "NAME=SETTING")]
        doubt: Vec<Choice>,
        /// Play each under every other setting of this doubt, or of "all", where it can matter, and print a table
        #[arg(long, value_name = "NAME", conflicts_with_all = ["doubt", "way", "json", "record"])]
        doubts: Vec<String>,
        /// Print the questions about AWS that nobody has confirmed an answer to, and end
        #[arg(long, exclusive = true)]
        list_doubts: bool,
        /// Where to save the report of each rollout, and the traffic of those that got as far, for `shiftgate replay`
        #[arg(long, value_name = "DIR")]
        record: Option<PathBuf>,
    },
    /// Keep the lab up, with one deployment waiting at each hook
    Serve {
        /// Port of the AWS endpoint; any free one by default
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Check and explain policies
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Judge the recording of a rollout offline, minute by minute
    Replay {
        /// The recording, JSON; `-` for standard input
        #[arg(required_unless_present = "schema")]
        file: Option<PathBuf>,
        /// The policy, YAML or JSON; the built-in defaults without it
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Print one JSON object: the answer, and the evidence of each gate minute by minute
        #[arg(long)]
        json: bool,
        /// Take a recording a line, and print an answer a line
        #[arg(long, conflicts_with = "json")]
        jsonl: bool,
        /// Print the JSON Schema of recordings
        #[arg(long, exclusive = true)]
        schema: bool,
    },
    /// Make a report of the evidence that a function wrote into its log
    Report(commands::report::Arguments),
    /// Tell what a policy would have made of past rollouts, and of time without a release
    Backtest(commands::backtest::Arguments),
    /// List the verdicts of an account, from the log: what was released, what was not, and why
    Verdicts(commands::verdicts::Arguments),
    /// Check how a deployment group or an ECS service is wired, and what its next release will meet
    Doctor(commands::doctor::Arguments),
    /// Write a first policy for a deployment group or an ECS service by what CloudWatch knows of it, and print its hooks
    Init(commands::init::Arguments),
    /// Tell the whole story of a rollout, from its controller and from the log, and what to do
    Explain(commands::explain::Arguments),
    /// Follow a rollout while it goes on, and end with it: with 1 when it did not go through
    Watch(commands::watch::Arguments),
    /// Play releases while things go wrong on purpose, and check what must be true all the same
    Faults(commands::faults::Arguments),
    /// Measure
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a manual page
    Man {
        /// The command, as in `man policy check`; the program itself without it
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
        /// Print all of it as Markdown: docs/cli.md
        #[arg(long, conflicts_with = "words")]
        markdown: bool,
    },
}

/// Who carries a deployment out.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Controller {
    /// CodeDeploy, which calls hooks and shifts by its own clock
    Codedeploy,
    /// ECS itself, which waits for a hook at each traffic step
    Ecs,
}

/// Ways of deploying.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ways {
    CodedeployCanary,
    CodedeployLinear,
    EcsBlueGreen,
    EcsCanary,
    EcsLinear,
    EcsRolling,
    All,
}

impl Ways {
    /// One of them, or none for all.
    fn chosen(self) -> Option<Way> {
        Some(match self {
            Self::CodedeployCanary => Way::CodeDeployCanary,
            Self::CodedeployLinear => Way::CodeDeployLinear,
            Self::EcsBlueGreen => Way::EcsBlueGreen,
            Self::EcsCanary => Way::EcsCanary,
            Self::EcsLinear => Way::EcsLinear,
            Self::EcsRolling => Way::EcsRolling,
            Self::All => return None,
        })
    }
}

#[derive(Subcommand)]
enum BenchCommand {
    /// The judge on simulated rollouts, beside the rules of other tools and beside oracles
    Judge {
        /// Rollouts of each cell
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Where to write the chart
        #[arg(long, value_name = "FILE", default_value = "target/bench-judge.svg")]
        svg: PathBuf,
        /// Where to write all numbers
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only cells with this text in their name, such as "canary" or "shared x4"
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Releases without a pause through processes that are never replaced, to see whether anything grows
    Soak {
        /// Minutes
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
        minutes: u64,
        /// Accounts at the same time
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
        jobs: u8,
    },
    /// What rollouts cost on AWS, by counted calls and list prices
    Cost(commands::cost::Arguments),
    /// The hook functions beside the same in Node and Python, and beside the least that Rust can do
    Functions(commands::functions_bench::Arguments),
    /// Many rollouts at once in one account, the stand-ins enforcing AWS's quotas
    Fleet(commands::fleet::Arguments),
    /// The after-shift judge on simulated metrics, with and without a change
    Placebo {
        /// Changes of each kind
        #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Days of history before each
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=14))]
        days: u32,
    },
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Tell every fault of a policy, with line and key
    Check {
        /// The policy, YAML or JSON
        file: PathBuf,
    },
    /// Print the JSON Schema of policies
    Schema,
    /// Say what a policy does, with all defaults filled in
    Explain {
        /// The policy, YAML or JSON; the built-in defaults without it
        file: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

/// Runs the command; false when it did its work and the answer is bad.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let given = arguments.functions;
    let found = || {
        let project = functions::project()?;
        let binaries = functions::binaries(&project, given)?;
        anyhow::Ok((project, binaries))
    };
    match arguments.command {
        Command::Try { list: true, .. } => commands::trial::list(&functions::project()?),
        Command::Try { scenario, controller, how, list: false } => {
            let file = commands::trial::file(&functions::project()?, scenario.as_deref(), controller)?;
            let (project, binaries) = found()?;
            commands::trial::run(&project, &binaries, &file, &how).await
        }
        Command::Report(arguments) => commands::report::run(&arguments),
        Command::Run { list_doubts: true, .. } => Ok(commands::doubts::list()),
        Command::Run { scenarios, json, jobs, retries, way, doubt, doubts, record, list_doubts: false } => {
            let doubts = commands::doubts::named(&doubts)?;
            let (project, binaries) = found()?;
            let way = way.map(Ways::chosen);
            let how = commands::scenarios::How { json, jobs, retries, record, choices: doubt };
            match way {
                _ if !doubts.is_empty() => {
                    commands::doubts::run(&project, &binaries, &scenarios, &doubts, jobs).await
                }
                Some(None) => commands::matrix::run(&project, &binaries, &scenarios, &how).await,
                way => commands::scenarios::run(&project, &binaries, &scenarios, way.flatten(), &how).await,
            }
        }
        Command::Serve { port } => {
            let (project, binaries) = found()?;
            commands::serve::run(&project, &binaries, port).await
        }
        Command::Backtest(arguments) => commands::backtest::run(&arguments).await,
        Command::Verdicts(arguments) => commands::verdicts::run(&arguments).await,
        Command::Doctor(arguments) => commands::doctor::run(&arguments).await,
        Command::Init(arguments) => commands::init::run(&arguments).await,
        Command::Watch(arguments) => commands::watch::run(&arguments).await,
        Command::Explain(arguments) => commands::explain::run(&arguments).await,
        Command::Completions { shell } => commands::manual::completions(Arguments::command(), shell),
        Command::Man { words, markdown } => commands::manual::man(Arguments::command(), &words, markdown),
        Command::Faults(arguments) => {
            let (project, binaries) = found()?;
            commands::faults::run(&project, &binaries, &arguments).await
        }
        Command::Bench { command: BenchCommand::Judge { runs, svg, json, only } } => {
            commands::bench::judge(runs as usize, &svg, json.as_deref(), only.as_deref())
        }
        Command::Bench { command: BenchCommand::Soak { minutes, jobs } } => {
            let (project, binaries) = found()?;
            commands::soak::run(&project, &binaries, Duration::from_mins(minutes), jobs).await
        }
        Command::Bench { command: BenchCommand::Cost(arguments) } => {
            commands::cost::run(found, &arguments).await
        }
        Command::Bench { command: BenchCommand::Functions(arguments) } => {
            commands::functions_bench::run(found, &arguments).await
        }
        Command::Bench { command: BenchCommand::Fleet(arguments) } => {
            commands::fleet::run(found, &arguments).await
        }
        Command::Bench { command: BenchCommand::Placebo { runs, days } } => {
            Ok(commands::bench::placebo(runs as usize, days as usize))
        }
        Command::Policy { command: PolicyCommand::Check { file } } => commands::policy::check(&file),
        Command::Policy { command: PolicyCommand::Schema } => commands::policy::schema(),
        Command::Policy { command: PolicyCommand::Explain { file } } => {
            commands::policy::explain(file.as_deref())
        }
        Command::Replay { file: Some(file), policy, jsonl: true, .. } => {
            commands::replay::lines(&file, policy.as_deref())
        }
        Command::Replay { file: Some(file), policy, json, .. } => {
            commands::replay::one(&file, policy.as_deref(), json)
        }
        // Without a file only `--schema` can be meant.
        Command::Replay { file: None, .. } => commands::replay::schema(),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    show::error(&format!("shiftgate: {error:#}"));
    ExitCode::from(2)
}
