//! What the clock said during a run, and the timeline that comes of it when somebody asks.

use std::sync::atomic::Ordering::Relaxed;

use crate::plan::{Plan, Side};
use crate::report::Report;

/// In nanoseconds.
pub struct Timeline {
    /// When each step began and ended, by the clock of the one who took it.
    steps: Box<[[u64; 2]]>,
    /// What turns that clock into the monotonic one.
    shift: u64,
    /// The monotonic clock when the run began, just before the clone, and after it.
    parent: [u64; 3],
}

impl Timeline {
    /// Copies what the report has, which the next run will use.
    pub fn read(plan: &Plan, report: &Report, shift: u64, parent: [u64; 3]) -> Self {
        let steps = report.times[..plan.steps.len()].iter();
        let steps = steps.map(|[start, end]| [start.load(Relaxed), end.load(Relaxed)]).collect();
        Self { steps, shift, parent }
    }

    /// When each step of this plan began, and how long it took.
    pub fn of_steps(&self, plan: &Plan) -> Vec<(u64, u64)> {
        let [began, cloning, resumed] = self.parent;
        let monotonic = |clock: u64| clock.wrapping_add(self.shift);
        let starts = self.steps.iter().map(|[start, _]| *start).filter(|clock| *clock != 0);
        let first = starts.min().map_or(cloning, monotonic);
        let last = plan.steps.len() - 1;
        let steps = plan.steps.iter().zip(&self.steps).enumerate();
        steps
            .map(|(index, ((side, _), clocks))| {
                let [started, ended] = clocks.map(monotonic);
                let (start, end) = match side {
                    Side::Parent if index == plan.clone_index() => (cloning, first),
                    Side::Parent => (began, cloning),
                    _ if index == last => (started, resumed),
                    _ => (started, ended),
                };
                (start, end.saturating_sub(start))
            })
            .collect()
    }
}
