//! Many rollouts in one account, simulated: who may call what and when, by AWS's quotas. Discrete events, no network and no
//! clock; the same seed gives the same run. It knows of a function only in which order it calls what, so it must be held
//! against the real functions (`bench fleet` does) before it is believed about larger fleets.

mod script;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use shiftgate_lab::quota::{Bucket, Quota};

pub use script::Scripts;

use script::{Ask, METRICS, Script};

/// A minute in seconds: the time between looks, and the period of the metrics.
const MINUTE: f64 = 60.0;
/// From the shift's begin to its end, from there to the bake's end, and until its metrics can be read.
const SHIFT: f64 = 5.0 * MINUTE;
const BAKE: f64 = 5.0 * MINUTE;
const INGESTION: f64 = 2.0 * MINUTE;
/// Pauses of the SDK between attempts: at most one second, doubled each time, at most five.
const LONGEST_PAUSE: f64 = 5.0;
/// Attempts of a call that is not made in passing.
const ATTEMPTS: u32 = 8;
/// Pauses of the state machine when Lambda has no place: two seconds, doubled each time, five times.
const STATE_MACHINE_RETRIES: u32 = 5;
/// Pause before a hook opens a release once more.
const COME_BACK: f64 = 5.0;
/// Pause of a bake after a look that could not be made.
const LOOK_AGAIN: f64 = 10.0;
/// After this a hook opens no more: its timeout without reserves.
const HOOK_OPENS_FOR: f64 = 900.0 - 20.0 - 120.0;
/// A run that is not over by then is given up.
const LONGEST: f64 = 4.0 * 3600.0;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct World<'a> {
    /// Rollouts, whose shifts begin in the same second.
    pub rollouts: usize,
    /// How many of them bring a regression.
    pub regressions: usize,
    /// Periods that show a regression.
    pub enough: f64,
    /// The account's quotas.
    pub quotas: &'a [Quota],
    /// Executions of Lambda functions at once.
    pub executions: usize,
    /// Seconds that an answered call takes, with all that a function does until the next.
    pub call: f64,
    /// What the functions call.
    pub scripts: &'a Scripts,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// From when the data for a verdict could be read until it was told, in seconds, sorted.
    pub delays: Vec<f64>,
    /// Rollouts without a right verdict.
    pub lost: usize,
    /// Looks that read metrics.
    pub looks: usize,
    /// Looks that could not.
    pub missed: usize,
    /// Answered and throttled calls by the quota's name.
    pub calls: BTreeMap<&'static str, (usize, usize)>,
    /// The most executions at once.
    pub peak: usize,
    /// Invocations that found no place.
    pub refused: usize,
}

/// Plays a world.
pub fn simulate(world: &World, seed: u64) -> Outcome {
    let mut run = Run::new(world, seed);
    for rollout in 0..world.rollouts {
        let spread = run.random.random::<f64>() * MINUTE;
        let regression = rollout < world.regressions;
        run.jobs.push(Job::new(rollout, regression, Duty::Look, &world.scripts.look));
        run.wake(rollout, spread);
    }
    run.play();
    run.outcome.lost = world.rollouts - run.outcome.delays.len();
    run.outcome.delays.sort_by(f64::total_cmp);
    run.outcome
}

/// What an execution is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Look,
    Stop,
    Open,
    Bake,
    LastOfBake,
    Report,
}

/// The loop of a watch, or the hook after the shift.
#[derive(Debug, Clone)]
struct Job<'a> {
    rollout: usize,
    regression: bool,
    duty: Duty,
    script: &'a Script,
    /// The call that is next, and how often it was tried.
    next: usize,
    tried: u32,
    /// How often the state machine has tried to invoke.
    invoked: u32,
    holds_place: bool,
    /// When this look began.
    began: f64,
}

impl<'a> Job<'a> {
    fn new(rollout: usize, regression: bool, duty: Duty, script: &'a Script) -> Self {
        Self {
            rollout,
            regression,
            duty,
            script,
            next: 0,
            tried: 0,
            invoked: 0,
            holds_place: false,
            began: 0.0,
        }
    }
}

/// A job goes on at an instant; of equal instants the one that was asked for first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    at: f64,
    order: u64,
    job: usize,
}

impl Eq for Event {}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

struct Run<'a> {
    world: &'a World<'a>,
    random: Pcg64Mcg,
    buckets: Vec<Bucket>,
    jobs: Vec<Job<'a>>,
    events: BinaryHeap<Event>,
    order: u64,
    running: usize,
    /// Hooks that Lambda keeps until there is a place.
    queue: VecDeque<usize>,
    hooks_begun: bool,
    stopped: Vec<bool>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(world: &'a World<'a>, seed: u64) -> Self {
        let full = |quota: &Quota| Bucket::full(quota.burst, quota.per_second, 0.0);
        Self {
            world,
            random: Pcg64Mcg::seed_from_u64(seed),
            buckets: world.quotas.iter().map(full).collect(),
            jobs: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
            running: 0,
            queue: VecDeque::new(),
            hooks_begun: false,
            stopped: vec![false; world.rollouts],
            outcome: Outcome::default(),
        }
    }

    fn wake(&mut self, job: usize, at: f64) {
        self.order += 1;
        self.events.push(Event { at, order: self.order, job });
    }

    fn play(&mut self) {
        while let Some(event) = self.events.peek().copied() {
            if event.at > LONGEST {
                return;
            }
            if event.at >= SHIFT && !self.hooks_begun {
                self.begin_hooks();
                continue;
            }
            self.events.pop();
            self.step(event.job, event.at);
        }
    }

    /// All traffic has shifted: the hook after it is called for every rollout that was not stopped.
    fn begin_hooks(&mut self) {
        self.hooks_begun = true;
        for rollout in 0..self.world.rollouts {
            if self.stopped[rollout] {
                continue;
            }
            let regression = rollout < self.world.regressions;
            self.jobs.push(Job::new(rollout, regression, Duty::Open, &self.world.scripts.open));
            self.queue.push_back(self.jobs.len() - 1);
        }
        self.fill_places(SHIFT);
    }

    fn fill_places(&mut self, now: f64) {
        while self.running < self.world.executions {
            let Some(job) = self.queue.pop_front() else { return };
            self.take_place(job, now);
            self.wake(job, now);
        }
    }

    fn take_place(&mut self, job: usize, now: f64) {
        self.running += 1;
        self.outcome.peak = self.outcome.peak.max(self.running);
        self.jobs[job].holds_place = true;
        self.jobs[job].began = now;
    }

    fn leave_place(&mut self, job: usize, now: f64) {
        self.running -= 1;
        self.jobs[job].holds_place = false;
        self.fill_places(now);
    }

    /// A job's next call, or what follows when it has made all.
    fn step(&mut self, job: usize, now: f64) {
        if !self.jobs[job].holds_place && !self.invoke(job, now) {
            return;
        }
        let Job { script, next, tried, .. } = self.jobs[job];
        let Some(ask) = script.get(next) else { return self.done(job, now) };
        // Before the first minute of the shift can be read, a look does not ask for it.
        let is_early = ask.action == METRICS && self.jobs[job].began < MINUTE + INGESTION;
        if is_early || self.call(ask, now) {
            self.jobs[job].next += 1;
            self.jobs[job].tried = 0;
            self.wake(job, now + self.world.call);
        } else if tried + 1 < ask.attempts {
            self.jobs[job].tried += 1;
            let longest = f64::from(1_u32 << tried.min(8)).min(LONGEST_PAUSE);
            let pause = self.random.random::<f64>() * longest;
            self.wake(job, now + pause);
        } else if ask.is_needed {
            self.failed(job, now);
        } else {
            self.jobs[job].next += 1;
            self.jobs[job].tried = 0;
            self.wake(job, now);
        }
    }

    /// The state machine invokes the watch; without a place it tries again, and at last pauses until the next look.
    fn invoke(&mut self, job: usize, now: f64) -> bool {
        if self.running < self.world.executions {
            self.take_place(job, now);
            self.jobs[job].invoked = 0;
            return true;
        }
        self.outcome.refused += 1;
        let tries = self.jobs[job].invoked;
        if tries < STATE_MACHINE_RETRIES {
            self.jobs[job].invoked += 1;
            self.wake(job, now + f64::from(2_u32 << tries));
        } else {
            self.jobs[job].invoked = 0;
            self.outcome.missed += 1;
            self.wake(job, now + MINUTE);
        }
        false
    }

    fn call(&mut self, ask: &Ask, now: f64) -> bool {
        let Some(index) = self.world.quotas.iter().position(|quota| quota.covers(ask.action)) else {
            return true;
        };
        let answered = self.buckets[index].take(now);
        let (ok, throttled) = self.outcome.calls.entry(self.world.quotas[index].name).or_default();
        if answered {
            *ok += 1;
        } else {
            *throttled += 1;
        }
        answered
    }

    fn go_on(&mut self, job: usize, duty: Duty, at: f64) {
        let scripts = self.world.scripts;
        let script = match duty {
            Duty::Look => &scripts.look,
            Duty::Stop => &scripts.stop,
            Duty::Open => &scripts.open,
            Duty::Bake => &scripts.again,
            Duty::LastOfBake => &scripts.last,
            Duty::Report => &scripts.report,
        };
        let job_now = &mut self.jobs[job];
        (job_now.duty, job_now.script, job_now.next, job_now.tried) = (duty, script, 0, 0);
        self.wake(job, at);
    }

    /// All calls of a duty were answered.
    fn done(&mut self, job: usize, now: f64) {
        let Job { rollout, regression, duty, began, .. } = self.jobs[job];
        match duty {
            Duty::Look if began >= SHIFT || self.stopped[rollout] => self.leave_place(job, now),
            Duty::Look => {
                self.outcome.looks += 1;
                if regression && began >= self.readable() {
                    self.go_on(job, Duty::Stop, now);
                } else {
                    self.leave_place(job, now);
                    self.go_on(job, Duty::Look, now + MINUTE);
                }
            }
            Duty::Stop => {
                self.leave_place(job, now);
                if !self.stopped[rollout] {
                    self.stopped[rollout] = true;
                    self.outcome.delays.push(now - self.readable());
                }
            }
            Duty::Open | Duty::Bake => self.bake(job, now),
            // A regression that nobody has seen until here is seen in the bake's first look, and the release fails.
            Duty::LastOfBake => self.go_on(job, Duty::Report, now),
            Duty::Report => {
                self.leave_place(job, now);
                if !regression {
                    self.outcome.delays.push(now - (SHIFT + BAKE + INGESTION));
                }
            }
        }
    }

    /// When the data for the verdict on a regression can be read: the shift begins with a minute.
    fn readable(&self) -> f64 {
        self.world.enough * MINUTE + INGESTION
    }

    /// The hook looks every minute, and once more when everything is in.
    fn bake(&mut self, job: usize, now: f64) {
        let left = SHIFT + BAKE + INGESTION - now;
        if left <= 0.0 {
            self.go_on(job, Duty::LastOfBake, now);
        } else if left <= MINUTE {
            self.go_on(job, Duty::LastOfBake, now + left);
        } else {
            self.go_on(job, Duty::Bake, now + MINUTE);
        }
    }

    /// A call that is needed was throttled to the end.
    fn failed(&mut self, job: usize, now: f64) {
        match self.jobs[job].duty {
            Duty::Look | Duty::Stop => {
                self.outcome.missed += 1;
                self.leave_place(job, now);
                self.go_on(job, Duty::Look, now + MINUTE);
            }
            Duty::Open if now - self.jobs[job].began < HOOK_OPENS_FOR => {
                self.go_on(job, Duty::Open, now + COME_BACK);
            }
            // Answered Failed: a good release is lost.
            Duty::Open | Duty::Report => self.leave_place(job, now),
            duty @ (Duty::Bake | Duty::LastOfBake) => self.go_on(job, duty, now + LOOK_AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftgate_lab::quota::{Assumed, fresh_account};

    fn outcome(rollouts: usize, quotas: &[Quota], executions: usize) -> Outcome {
        let scripts = Scripts::default();
        let world = World {
            rollouts,
            regressions: rollouts / 20,
            enough: 1.0,
            quotas,
            executions,
            call: 0.02,
            scripts: &scripts,
        };
        simulate(&world, 7)
    }

    #[test]
    fn without_quotas_a_verdict_waits_for_the_next_look_and_for_nothing_else() {
        let outcome = outcome(200, &[], 1_000_000);
        assert_eq!((outcome.lost, outcome.missed, outcome.refused), (0, 0, 0));
        assert!(outcome.delays.iter().all(|delay| (0.0..MINUTE + 1.0).contains(delay)), "{outcome:?}");
        // All of the 190 bake at once, beside the watches that find the shift to be over.
        assert!((190..=200).contains(&outcome.peak), "{}", outcome.peak);
    }

    #[test]
    fn a_narrow_quota_delays_and_a_wide_one_does_not() {
        let fresh = fresh_account(Assumed::default());
        let throttled = |outcome: &Outcome| outcome.calls.values().map(|(_, no)| no).sum::<usize>();
        let few = outcome(20, &fresh, 1000);
        assert_eq!(throttled(&few), 0, "{few:?}");
        let many = outcome(5000, &fresh, 10_000);
        assert!(throttled(&many) > 1000);
        assert!(many.delays.last() > few.delays.last());
    }

    #[test]
    fn without_places_looks_are_missed() {
        let outcome = outcome(500, &[], 1);
        assert!(outcome.refused > 0 && outcome.missed > 0, "{outcome:?}");
        assert_eq!(outcome.peak, 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let fresh = fresh_account(Assumed::default());
        assert_eq!(outcome(300, &fresh, 100).delays, outcome(300, &fresh, 100).delays);
    }
}
