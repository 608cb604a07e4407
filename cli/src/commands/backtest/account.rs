//! Past rollouts of a deployment group, and the time between them, read from CodeDeploy and CloudWatch. Only calls that
//! read.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use shiftgate::aws::Aws;
use shiftgate::backtest::Named;
use shiftgate::budget::Budget;
use shiftgate::clock;
use shiftgate::environment::Environment;
use shiftgate::event::DeploymentId;
use shiftgate::fault::{Fault, FaultKind};
use shiftgate::hook::Release;
use shiftgate::judge::median;
use shiftgate::judge::series::{Past, Series};
use shiftgate::metrics::Window;
use shiftgate::policy::defaults;
use shiftgate::policy::gates::{Events, Gate, Rule};
use shiftgate::policy::plan::Plan;
use shiftgate::recording::{Bad, Recording, Traffic};
use shiftgate::rollout::{self, Deployment, Rollout, Service};
use shiftgate::smoke::Secrets;
use shiftgate::traffic::{self, Span};
use shiftgate::verdict::Quantity;
use shiftgate::watched::Watch;

use crate::account::{Account, told};
use crate::past::{self, ASKED, KEPT};
use crate::show;

/// What an account knows of a deployment group.
pub struct Read {
    /// Its rollouts, oldest first, then the time between them.
    pub recordings: Vec<Named>,
    /// What the reader should know of how they were read.
    pub notes: Vec<String>,
}

/// Reads the past of `APPLICATION/GROUP`, as far back as `since`, with what the comparisons of all plans count. The first
/// plan says how metrics are read.
pub async fn read(name: &str, since: Duration, plans: &[&Plan], progress: &mut show::Slow) -> Result<Read> {
    let (application, group) =
        name.split_once('/').with_context(|| format!("`{name}` is not of the form APPLICATION/GROUP"))?;
    let plan = (*plans.first().context("no policy")?).clone();
    if plans.iter().any(|other| other.sampling.period != plan.sampling.period) {
        bail!("the policies read metrics in periods of different length: give both the same metrics.period");
    }
    let Account { aws, .. } = Account::from_environment().await;
    let service = rollout::service(&aws, application, group).await.map_err(told)?;
    let now = clock::now();
    let from = now.checked_sub(since.min(ASKED)).context("--since is longer ago than there is time")?;
    let mut reader = Reader { aws, service, gates: gates(plans), plan, now, progress, notes: Vec::new() };
    if since > KEPT {
        reader.notes.push("CloudWatch keeps minutes for 15 days: older rollouts were not read".to_owned());
    }
    let releases = reader.releases(application, group, from).await?;
    let quiet = reader.quiet(from, &releases.shifts).await?;
    if releases.recordings.is_empty() && quiet.is_empty() {
        bail!(
            "CloudWatch has no requests of {name} since {from:.0}: check the region, or ask with a longer --since"
        );
    }
    Ok(Read { recordings: releases.recordings.into_iter().chain(quiet).collect(), notes: reader.notes })
}

/// The comparisons of all plans that a recording can hold. Where two count the same, the first plan's is read.
fn gates(plans: &[&Plan]) -> Vec<Gate> {
    let mut gates: Vec<Gate> = Vec::new();
    for gate in plans.iter().flat_map(|plan| &plan.traffic) {
        let bad = Bad::compared_by(gate);
        if bad.is_some() && !gates.iter().any(|known| Bad::compared_by(known) == bad) {
            gates.push(gate.clone());
        }
    }
    gates
}

/// When traffic shifted, and when all of a deployment was over.
struct Shift {
    began: Timestamp,
    ended: Timestamp,
    over: Timestamp,
}

impl Shift {
    /// `None` when traffic never began to shift. A deployment that was stopped may not say when its shift ended, but when
    /// all of it did.
    fn of(deployment: &Deployment, rollout: &Rollout) -> Option<Self> {
        let shift = rollout.event("AllowTraffic")?;
        let (began, ended) = shift.started.zip(shift.ended.or(deployment.completed))?;
        let baked = rollout.event("AfterAllowTraffic").and_then(|event| event.ended);
        Some(Self { began, ended, over: baked.map_or(ended, |baked| baked.max(ended)) })
    }

    /// All of the deployment, of which nobody knows when its traffic shifted: no time to learn from.
    fn whole(deployment: &Deployment) -> Option<Self> {
        let (began, ended) = deployment.started.zip(deployment.completed)?;
        Some(Self { began, ended, over: ended })
    }
}

/// The releases that were read, and when any traffic shifted, also that of rollbacks.
struct Releases {
    recordings: Vec<Named>,
    shifts: Vec<Shift>,
}

struct Reader<'a> {
    aws: Aws,
    service: Service,
    gates: Vec<Gate>,
    plan: Plan,
    now: Timestamp,
    progress: &'a mut show::Slow,
    notes: Vec<String>,
}

impl Reader<'_> {
    async fn releases(&mut self, application: &str, group: &str, from: Timestamp) -> Result<Releases> {
        let ids = rollout::ended(&self.aws, application, group, from).await.map_err(told)?;
        let (mut recordings, mut shifts) = (Vec::new(), Vec::new());
        for (index, id) in ids.iter().enumerate() {
            self.progress.say(&format!("reading deployment {} of {}", index + 1, ids.len()));
            let (deployment, rollout) = match self.discovered(id).await {
                Ok(found) => found,
                Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Rejected) => {
                    self.notes.push(format!("{id} was left out: {}", fault.chain()));
                    continue;
                }
                Err(fault) => return Err(told(fault)),
            };
            if rollout.events.is_empty() {
                self.notes
                    .push(format!("{id} was left out: CodeDeploy tells nothing of its lifecycle events"));
                shifts.extend(Shift::whole(&deployment));
                continue;
            }
            let Some(shift) = Shift::of(&deployment, &rollout) else { continue };
            if !deployment.is_rollback {
                match self.recorded(deployment, rollout, &shift).await.map_err(told)? {
                    Some(traffic) => recordings.push((shift.began, id.clone(), traffic)),
                    None => self.notes.push(format!("{id} was left out: no complete period in its shift")),
                }
            }
            shifts.push(shift);
        }
        recordings.sort_by_key(|(began, ..)| *began);
        let named = |(began, id, traffic): (Timestamp, DeploymentId, Traffic)| Named {
            name: format!("{id}-{}", began.strftime("%Y-%m-%d")),
            recording: Recording::Traffic(traffic),
        };
        Ok(Releases { recordings: recordings.into_iter().map(named).collect(), shifts })
    }

    async fn discovered(&self, id: &DeploymentId) -> Result<(Deployment, Rollout), Fault> {
        let deployment = rollout::deployment(&self.aws, id).await?;
        let rollout = self.service.in_deployment(&self.aws, &deployment).await?;
        Ok((deployment, rollout))
    }

    /// What the watch would have recorded when traffic had shifted.
    async fn recorded(
        &self,
        deployment: Deployment,
        rollout: Rollout,
        shift: &Shift,
    ) -> Result<Option<Traffic>, Fault> {
        let release = Release {
            aws: self.aws.clone(),
            environment: Environment::default(),
            deployment,
            rollout,
            plan: self.plan.clone(),
            budget: Budget::new(self.now, 0, None),
            secrets: Secrets::default(),
            watch: Watch::Unknown,
            usually_slow: Vec::new(),
            recording: None,
        };
        let span = Span { shift: shift.began, from: shift.began, until: shift.ended };
        let seen = traffic::look(&release, &self.gates, span, self.now).await?;
        let recording = seen.recording.filter(|traffic| !traffic.minutes.is_empty());
        // The watch does not know how long a shift will take.
        let planned = u32::try_from(defaults::USUAL_PERIODS).ok().and_then(std::num::NonZeroU32::new);
        Ok(recording.map(|traffic| Traffic { minutes_planned: planned, ..traffic }))
    }

    /// The time between the shifts, each stretch a recording without a release.
    async fn quiet(&mut self, from: Timestamp, shifts: &[Shift]) -> Result<Vec<Named>> {
        let window = Window::complete(from, Timestamp::MAX, self.now, &self.plan.sampling);
        let counted = self.counted(&window).await.map_err(told)?;
        let stretches = stretches(&window, shifts);
        let named = stretches.into_iter().filter_map(|(begin, end)| {
            let series: Vec<(Bad, Series)> = counted
                .iter()
                .map(|(bad, past)| (*bad, Series { history: past[begin..end].to_vec(), ..Series::default() }))
                .collect();
            let any = series.iter().any(|(_, series)| series.history.iter().any(|past| past.total.is_some()));
            let traffic = Traffic::taken(window.period, &series).filter(|_| any)?;
            let began = window.with_periods(begin).end().strftime("%Y-%m-%dT%H%M%SZ").to_string();
            Some(Named { name: format!("quiet-{began}"), recording: Recording::Traffic(traffic) })
        });
        Ok(named.collect())
    }

    /// The counts of the whole service in every period, for each comparison.
    async fn counted(&mut self, window: &Window) -> Result<Vec<(Bad, Vec<Past>)>, Fault> {
        // Either target group was blue at some time.
        let rollout = self.service.with_blue(0);
        let usual = self.usually_slow(&rollout, window).await?;
        let compared = |gate: &Gate| {
            let Rule::Compared(compared) = &gate.rule else { return None };
            Some((Bad::compared_by(gate)?, compared.events.clone()))
        };
        let (bads, events): (Vec<Bad>, Vec<Events>) = self.gates.iter().filter_map(compared).unzip();
        let progress = &mut *self.progress;
        let (counted, messages) =
            past::counts(&self.aws, &events, usual, &rollout, window, &mut |text| progress.say(text)).await?;
        self.notes.extend(messages);
        Ok(bads.into_iter().zip(counted).filter_map(|(bad, past)| Some((bad, past?))).collect())
    }

    /// One limit for the whole time, from which on a request is slow.
    async fn usually_slow(&mut self, rollout: &Rollout, window: &Window) -> Result<Option<f64>, Fault> {
        let slowest = traffic::slowest(&self.aws, rollout, &self.gates, window).await?;
        let usual = median(slowest.into_iter().flatten().flatten());
        if let Some(usual) = usual {
            self.notes.push(format!(
                "in the A/A windows requests are slow above {}, the median p99 of the whole time; in a rollout above that of the hour before",
                Quantity::seconds(usual)
            ));
        }
        Ok(usual)
    }
}

/// The stretches of a window, as periods from and up to, in which no traffic shifted.
fn stretches(window: &Window, shifts: &[Shift]) -> Vec<(usize, usize)> {
    let mut busy: Vec<(usize, usize)> = shifts
        .iter()
        .map(|shift| (window.parted_at(shift.began).0, window.parted_at(shift.over).1))
        .chain([(window.periods, window.periods)])
        .collect();
    busy.sort_unstable();
    let (mut stretches, mut quiet_from) = (Vec::new(), 0);
    for (begin, end) in busy {
        if begin > quiet_from {
            stretches.push((quiet_from, begin));
        }
        quiet_from = quiet_from.max(end);
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    #[test]
    fn quiet_time_is_what_no_shift_and_no_bake_touches() {
        let window = Window { start: at(100), periods: 50, period: Duration::from_mins(1) };
        let shift = |began: i64, over: i64| Shift {
            began: at(began).checked_add(Duration::from_secs(30)).unwrap(),
            ended: at(began + 1),
            over: at(over).checked_add(Duration::from_secs(1)).unwrap(),
        };
        let check = |shifts: &[Shift], expect: &[(usize, usize)]| {
            assert_eq!(stretches(&window, shifts), expect);
        };
        check(&[], &[(0, 50)]);
        // From the middle of minute 110 to the beginning of minute 115: periods 10 to 15.
        check(&[shift(110, 115)], &[(0, 10), (16, 50)]);
        // One within another, one right behind it, and one beyond either end.
        check(
            &[shift(130, 135), shift(110, 120), shift(112, 114), shift(121, 125)],
            &[(0, 10), (26, 30), (36, 50)],
        );
        check(&[shift(90, 99), shift(95, 104), shift(148, 170), shift(160, 170)], &[(5, 48)]);
    }

    #[test]
    fn each_count_is_read_once_as_the_first_policy_has_it() {
        let policy = |slow: &str| {
            let text = format!(
                "version: 1\ntraffic:\n  - {{name: slow, slower_than: {slow}}}\n  - {{name: latency, metric: TargetResponseTime, statistic: p99, limit: 500ms}}\n"
            );
            shiftgate::policy::parse(&text).unwrap()
        };
        let [first, other] = ["200ms", "300ms"].map(policy);
        let read = gates(&[&first, &other, &Plan::default()]);
        assert_eq!(read.len(), 3);
        assert_eq!(read[0], first.traffic[0]);
        let counts: Vec<Option<Bad>> = read.iter().map(Bad::compared_by).collect();
        assert_eq!(counts, [Some(Bad::SlowRequests), Some(Bad::ServerErrors), Some(Bad::ConnectionErrors)]);
    }
}
