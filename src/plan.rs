//! From what was asked to the list of steps. No system call is made here.

mod order;

use std::fmt;
use std::mem::take;

use nix::errno::Errno;

use crate::caller::Caller;
use crate::error::Error;
use crate::idmap;
use crate::init::Init;
use crate::namespace::NamespaceSet;
use crate::options::{Join, JoinSource, Options};
use crate::rules;
use crate::step::{Exec, Step};
use crate::sys::CStrArray;

/// A plan has fewer steps than this.
pub const MAX_STEPS: usize = 48;

/// Who takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The calling process.
    Parent,
    /// The process between the caller and the child, where one is needed: to enter namespaces before new ones are
    /// made, and to write id maps that the child may not write itself.
    Intermediate,
    /// The init above the program, where there is one: it has made the namespaces, and makes the child.
    Init,
    /// The child, which becomes the program.
    Child,
}

impl Side {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Intermediate => "intermediate",
            Self::Init => "init",
            Self::Child => "child",
        }
    }
}

/// A checked request: every step in the order of execution, with everything allocated. It can run any number of times.
#[derive(Clone)]
pub struct Plan {
    /// What happens, and who does it.
    pub steps: Vec<(Side, Step)>,
    /// clone(2) is used where clone3(2) is refused.
    pub(crate) legacy: bool,
    /// The request, without what the steps own.
    pub options: Options,
    shape: Shape,
}

/// What a run asks of the steps again and again.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Shape {
    clone: usize,
    clone_flags: NamespaceSet,
    steps_of_child: usize,
    has_intermediate: bool,
    shares_files: bool,
    keeps: bool,
    copies_memory: bool,
    needs_extras: bool,
}

impl Shape {
    fn of(steps: &[(Side, Step)], o: &Options) -> Self {
        let clone = steps.iter().position(|(_, step)| matches!(step, Step::Clone(_))).unwrap_or(0);
        let clone_flags = match steps.get(clone) {
            Some((_, Step::Clone(types))) => *types,
            _ => NamespaceSet::EMPTY,
        };
        let copies_memory = enters_time_first(o.flags) && time_to_enter(o).is_some();
        let upto_last = steps.iter().rposition(|(side, _)| *side == Side::Child).map_or(0, |index| index + 1);
        // The last step is the program's in between, where a time namespace is entered by one.
        let in_between = usize::from(time_to_enter(o).is_some() && !copies_memory);
        let has = |wanted: fn(&Step) -> bool| steps.iter().any(|(_, step)| wanted(step));
        let simple = o.join.is_empty() && o.kill_child.is_none() && o.init.is_none();
        Self {
            clone,
            clone_flags,
            steps_of_child: upto_last - in_between,
            has_intermediate: steps.iter().any(|(side, _)| *side == Side::Intermediate),
            shares_files: has(|step| matches!(step, Step::UnshareFiles | Step::Keep(..))),
            keeps: has(|step| matches!(step, Step::Keep(..))),
            copies_memory,
            needs_extras: !simple
                || has(|step| matches!(step, Step::MapHelper(..) | Step::Setuid(_) | Step::Setgid(_))),
        }
    }
}

impl Plan {
    /// Checks the options against each other and against the kernel's rules, and puts the steps in order.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], with the remedy in the sentence.
    pub fn new(mut options: Options, caller: &Caller) -> Result<Self, Error> {
        rules::check(&options, caller)?;
        let flags = options.flags;
        if flags.contains(NamespaceSet::TIME) && !caller.execve_enters_time {
            // The program would run outside of it: as if this kernel had no such namespace.
            return Err(Error::Step { step: "clone", detail: flags.to_string(), errno: Errno::EINVAL });
        }
        let maps = idmap::plan(&options, caller)?;
        let joined = types_of(&options.join);
        if joined.contains(NamespaceSet::PID) && flags.contains(NamespaceSet::PID) {
            return Err(Error::invalid(
                "join enters a pid namespace, and the kernel makes no new one before a child has been born there \
                 (leave \"pid\" out of the flags, or let a program that joins make it)",
            ));
        }
        let enter = entered_by_setns(&options);
        let intermediate = maps.outside || (!enter.is_empty() && enters_first(flags, types_of(&enter)));

        let mut steps = Vec::with_capacity(MAX_STEPS);
        if options.join.iter().any(|join| !matches!(join.source, JoinSource::Fd(_))) {
            steps.push((Side::Parent, Step::OpenNs(options.join.clone())));
        }
        steps.push((Side::Parent, Step::Clone(if intermediate { NamespaceSet::EMPTY } else { flags })));
        if intermediate {
            if !enter.is_empty() {
                steps.push((Side::Intermediate, Step::Setns(enter.clone())));
            }
            steps.push((Side::Intermediate, Step::Clone(flags)));
        }
        // Whoever is made in the new namespaces sets them up.
        let first = if options.init == Some(Init::AboveProgram) { Side::Init } else { Side::Child };
        let noted = if options.keep { NamespaceSet::EMPTY } else { flags.union(joined.without(known(&options))) };
        if !noted.is_empty() {
            steps.push((first, Step::UnshareFiles));
        }
        if maps.outside {
            steps.extend(maps.steps.into_iter().map(|step| (Side::Intermediate, step)));
            steps.push((first, Step::AwaitMaps));
        } else {
            steps.extend(maps.steps.into_iter().map(|step| (first, step)));
        }
        let mut inside = Vec::with_capacity(MAX_STEPS);
        if !intermediate && !enter.is_empty() {
            inside.push(Step::Setns(enter));
        }
        order::kernel_objects(&mut inside, &options);
        if !noted.is_empty() {
            inside.push(Step::NoteNamespaces(noted, caller.pidfds_show_namespaces));
        }
        if first == Side::Init {
            inside.extend(options.kill_child.map(Step::ParentDeathSignal));
            inside.push(Step::Clone(NamespaceSet::EMPTY));
        }
        steps.extend(inside.into_iter().map(|step| (first, step)));

        let mut child = Vec::with_capacity(MAX_STEPS);
        if first == Side::Init {
            child.push(Step::SendPidfd);
        }
        if options.keep {
            child.push(Step::Keep(flags, caller.pidfds_show_namespaces));
        } else {
            order::process(&mut child, &options, caller, maps.setgroups_denied);
            order::last_steps(&mut child, &mut options, caller);
        }
        steps.extend(child.into_iter().map(|step| (Side::Child, step)));
        if first == Side::Init {
            steps.push((Side::Init, Step::ExecInit(CStrArray::default())));
        }
        debug_assert!(steps.len() < MAX_STEPS);
        Ok(Self { shape: Shape::of(&steps, &options), steps, legacy: false, options })
    }

    /// The same plan for a kernel or a seccomp profile without clone3(2): the time namespace, which has no flag in
    /// clone(2), and the signal handlers become steps of the child.
    #[must_use]
    pub(crate) fn with_legacy_clone(&self) -> Self {
        let mut steps = Vec::with_capacity(self.steps.len() + 2);
        let time = self.options.flags.contains(NamespaceSet::TIME);
        let mut prelude = vec![Step::ClearHandlers];
        if time {
            prelude.push(Step::Unshare(NamespaceSet::TIME));
        }
        for (side, step) in &self.steps {
            if matches!(side, Side::Init | Side::Child) {
                steps.extend(take(&mut prelude).into_iter().map(|step| (*side, step)));
            }
            steps.push(match step {
                Step::Clone(types) => (*side, Step::Clone(types.without(NamespaceSet::TIME))),
                other => (*side, other.clone()),
            });
        }
        Self { shape: Shape::of(&steps, &self.options), steps, legacy: true, options: self.options.clone() }
    }

    /// The same plan, with descriptors of the new namespaces left in the caller: also of a program that ends at once.
    #[must_use]
    pub fn keeping(&self) -> Self {
        let mut steps = self.steps.clone();
        let by_pidfd = steps.iter().any(|(_, step)| matches!(step, Step::NoteNamespaces(_, true)));
        // As long as the child has the caller's table.
        let shared = steps.iter().position(|(_, step)| matches!(step, Step::UnshareFiles));
        if let Some(index) = shared.filter(|_| !self.options.flags.is_empty()) {
            steps.insert(index, (steps[index].0, Step::Keep(self.options.flags, by_pidfd)));
        }
        Self { shape: Shape::of(&steps, &self.options), steps, legacy: self.legacy, options: self.options.clone() }
    }

    /// Whether a process is needed between the caller and the child.
    #[must_use]
    pub fn has_intermediate(&self) -> bool {
        self.shape.has_intermediate
    }

    /// Whether a run needs more than memory and a signal mask, see [`crate::extras`].
    pub(crate) fn needs_extras(&self) -> bool {
        self.shape.needs_extras
    }

    /// The time namespace to enter, by a program in between: the kernel lets nobody who shares memory enter one.
    #[must_use]
    pub fn enters_time(&self) -> Option<&Join> {
        time_to_enter(&self.options).filter(|_| !self.copies_memory())
    }

    /// Whether the first process must have a memory of its own, to enter a time namespace before the new ones are made.
    #[must_use]
    pub fn copies_memory(&self) -> bool {
        self.shape.copies_memory
    }

    /// Whether the child begins with the descriptor table of the caller.
    pub(crate) fn shares_files(&self) -> bool {
        self.shape.shares_files
    }

    /// Whether descriptors of the new namespaces are left in the caller.
    pub(crate) fn keeps(&self) -> bool {
        self.shape.keeps
    }

    /// The index of the parent's clone.
    pub(crate) fn clone_index(&self) -> usize {
        self.shape.clone
    }

    /// The namespaces that the parent's clone makes.
    pub(crate) fn clone_flags(&self) -> NamespaceSet {
        self.shape.clone_flags
    }

    /// How many steps there are up to the last one that the child takes in our memory, itself included.
    pub(crate) fn steps_of_child(&self) -> usize {
        self.shape.steps_of_child
    }

    /// What the last step of the child executes.
    pub(crate) fn exec(&self) -> Option<&Exec> {
        self.steps.iter().rev().find_map(|(_, step)| match step {
            Step::Execve(exec) => Some(&**exec),
            _ => None,
        })
    }

    /// Whether an init is all there is.
    pub(crate) fn is_host(&self) -> bool {
        self.options.init == Some(Init::Alone)
    }

    /// Whether an init stands above the program.
    pub(crate) fn has_init(&self) -> bool {
        self.options.init == Some(Init::AboveProgram)
    }

    /// Whether the caller's `/proc` must be at hand: where another mount namespace may be joined first.
    pub(crate) fn needs_proc(&self) -> bool {
        let needs = |step: &Step| matches!(step, Step::WriteMap(..) | Step::TimensOffsets(_) | Step::MapHelper(..));
        !self.options.join.is_empty() && self.steps.iter().any(|(_, step)| needs(step))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.steps.iter().map(|(side, _)| side.name().len()).max().unwrap_or(0);
        for (i, (side, step)) in self.steps.iter().enumerate() {
            let end = if i + 1 == self.steps.len() { "" } else { "\n" };
            write!(f, "{:<widest$}  {step}{end}", side.name())?;
        }
        Ok(())
    }
}

fn types_of(joins: &[Join]) -> NamespaceSet {
    joins.iter().fold(NamespaceSet::EMPTY, |all, join| all.union(join.types))
}

fn known(o: &Options) -> NamespaceSet {
    let known = o.known_joins();
    let rows = NamespaceSet::ALL.rows().filter(|(index, _)| known[*index].is_some());
    rows.fold(NamespaceSet::EMPTY, |all, (_, row)| all.union(NamespaceSet::from_bits(row.flag).unwrap_or_default()))
}

/// What is entered by setns(2) before the program: everything but a time namespace, if that can wait.
fn entered_by_setns(o: &Options) -> Vec<Join> {
    if enters_time_first(o.flags) {
        return o.join.clone();
    }
    let others = o.join.iter().filter(|join| join.types != NamespaceSet::TIME);
    others.map(|join| Join { types: join.types.without(NamespaceSet::TIME), ..join.clone() }).collect()
}

/// Whether they must be entered before the new ones are made, or before the child is.
fn enters_first(flags: NamespaceSet, joined: NamespaceSet) -> bool {
    // These can be entered from anywhere, also after others have been made beside them.
    let anywhere = NamespaceSet::IPC.union(NamespaceSet::NET).union(NamespaceSet::UTS);
    let beside = anywhere.contains(joined) && !flags.intersects(joined.union(NamespaceSet::USER));
    joined.contains(NamespaceSet::PID) || !(flags.is_empty() || beside)
}

/// A new time namespace is made below the one that is entered, and a new user namespace would not have the right to.
fn enters_time_first(flags: NamespaceSet) -> bool {
    flags.intersects(NamespaceSet::TIME.union(NamespaceSet::USER))
}

fn time_to_enter(o: &Options) -> Option<&Join> {
    o.join.iter().rev().find(|join| join.types.contains(NamespaceSet::TIME))
}
