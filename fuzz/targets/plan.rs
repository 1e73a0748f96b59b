//! `Plan::new` over all options and callers, and what is said of a plan. Nothing is executed.
#![no_main]

use std::ffi::CString;
use std::fmt;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use nslab::inspect::NamespaceId;
use nslab::{
    Caller, ClockOffset, Error, IdRange, Init, Join, JoinSource, MapRequest, NAMESPACES, NamespaceSet, Options, Plan,
    Propagation, Side, Step, c_source, fuzz, unshare_command,
};

#[path = "shell.rs"]
mod shell;

struct Input(Options, Caller);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fuzz_target!(|input: Input| {
    let Input(options, caller) = input;
    let asked = options.clone();
    match Plan::new(options, &caller) {
        Ok(plan) => {
            in_order(&plan, &asked);
            in_words(&plan, &asked);
        }
        Err(Error::Invalid(message)) => assert!(!message.is_empty() && !message.contains('\n'), "{message:?}"),
        Err(error) => assert!(asked.flags.bits() & nslab_time() != 0 && !caller.execve_enters_time, "{error}"),
    }
});

fn nslab_time() -> u32 {
    NAMESPACES.iter().find(|row| row.name == "time").map_or(0, |row| row.flag)
}

/// Every new namespace is made exactly once, and the program comes last.
fn in_order(plan: &Plan, asked: &Options) {
    let clones =
        plan.steps.iter().filter_map(|(_, step)| if let Step::Clone(types) = step { Some(types.bits()) } else { None });
    let made: Vec<u32> = clones.filter(|bits| *bits != 0).collect();
    assert!(if asked.flags.is_empty() { made.is_empty() } else { made == [asked.flags.bits()] });
    let ends = |step: &Step| matches!(step, Step::Execve(_) | Step::ExecInit(_) | Step::Keep(..));
    let (side, last) = plan.steps.last().expect("steps");
    assert!(ends(last) && matches!(side, Side::Child | Side::Init));
    let programs = plan.steps.iter().filter(|(side, step)| *side == Side::Child && ends(step)).count();
    assert_eq!(programs, 1);
    let named = |name: &str| plan.steps.iter().filter(|(_, step)| step.name() == name).count();
    assert_eq!(named("sethostname"), usize::from(asked.hostname.is_some()));
    assert_eq!(named("setdomainname"), usize::from(asked.domainname.is_some()));
    assert_eq!(named("mount_proc"), usize::from(asked.mount_proc.is_some()));
    assert_eq!(named("loopback"), usize::from(asked.loopback));
}

/// What is printed is one line a step; what a shell would read is what was meant.
fn in_words(plan: &Plan, asked: &Options) {
    assert_eq!(plan.to_string().split('\n').count(), plan.steps.len(), "{plan}");
    for (_, step) in &plan.steps {
        let _ = step.detail();
    }
    if asked.keep || asked.init == Some(Init::Alone) {
        return;
    }
    let source = c_source(plan);
    assert!(source.contains("int main"));
    let lines = unshare_command(plan);
    let (comments, line) = shell::split(&lines);
    assert!(comments.iter().all(|comment| comment.starts_with("# ")), "{lines}");
    let words = shell::words(line).expect("a shell reads it");
    let arguments: Vec<_> = asked.argv.iter().skip(1).map(|word| word.to_bytes().to_vec()).collect();
    assert!(words.ends_with(&arguments), "{line}");
    let program = &words[words.len() - arguments.len() - 1];
    assert_eq!(program, asked.executable.to_bytes());
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(options(u)?, caller(u)?))
    }
}

fn options(u: &mut Unstructured<'_>) -> Result<Options> {
    let all: u32 = NAMESPACES.iter().map(|row| row.flag).sum();
    let init = [None, None, Some(Init::AboveProgram), Some(Init::Alone)];
    let words = [Propagation::Private, Propagation::Slave, Propagation::Shared, Propagation::Unchanged];
    Ok(Options {
        flags: NamespaceSet::from_bits(u32::arbitrary(u)? & all).expect("only known bits"),
        argv: several(u, text)?,
        executable: text(u)?,
        env: maybe(u, |u| several(u, text))?,
        cwd: maybe(u, text)?,
        close_fds: u.arbitrary()?,
        pass_fds: u.arbitrary()?,
        restore_signals: u.arbitrary()?,
        start_new_session: u.arbitrary()?,
        process_group: u.arbitrary()?,
        umask: u.arbitrary()?,
        user: u.arbitrary()?,
        group: u.arbitrary()?,
        extra_groups: u.arbitrary()?,
        hostname: u.arbitrary()?,
        domainname: u.arbitrary()?,
        map_root_user: u.arbitrary()?,
        map_current_user: u.arbitrary()?,
        map_users: maybe(u, map)?,
        map_groups: maybe(u, map)?,
        setgroups: u.arbitrary()?,
        propagation: if u.arbitrary()? { Some(*u.choose(&words)?) } else { None },
        mount_proc: maybe(u, text)?,
        loopback: u.arbitrary()?,
        monotonic: maybe(u, offset)?,
        boottime: maybe(u, offset)?,
        join: several(u, join)?,
        kill_child: u.arbitrary()?,
        keep: u.ratio(1, 16)?,
        init: *u.choose(&init)?,
    })
}

fn caller(u: &mut Unstructured<'_>) -> Result<Caller> {
    let available = |u: &mut Unstructured<'_>| Ok(fuzz::Available { subordinate: u.arbitrary()?, own: u.arbitrary()? });
    Ok(Caller {
        euid: u.arbitrary()?,
        egid: u.arbitrary()?,
        groups: u.arbitrary()?,
        may_map_users: u.arbitrary()?,
        may_map_groups: u.arbitrary()?,
        newuidmap: maybe(u, text)?,
        newgidmap: maybe(u, text)?,
        users: available(u)?,
        groups_available: available(u)?,
        clocks: [u.int_in_range(0..=1 << 40)?, u.int_in_range(0..=1 << 40)?],
        execve_enters_time: u.arbitrary()?,
        pidfds_show_namespaces: u.arbitrary()?,
        ..Caller::default()
    })
}

fn maybe<'a, T>(u: &mut Unstructured<'a>, make: impl Fn(&mut Unstructured<'a>) -> Result<T>) -> Result<Option<T>> {
    if u.arbitrary()? { make(u).map(Some) } else { Ok(None) }
}

fn several<'a, T>(u: &mut Unstructured<'a>, make: impl Fn(&mut Unstructured<'a>) -> Result<T>) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=4)?).map(|_| make(u)).collect()
}

/// Any bytes but NUL.
fn text(u: &mut Unstructured<'_>) -> Result<CString> {
    let bytes: Vec<u8> = u.arbitrary()?;
    Ok(CString::new(bytes.into_iter().filter(|byte| *byte != 0).collect::<Vec<_>>()).expect("no NUL"))
}

fn map(u: &mut Unstructured<'_>) -> Result<MapRequest> {
    let range = |u: &mut Unstructured<'_>| {
        Ok(IdRange { inside: u.arbitrary()?, outside: u.arbitrary()?, count: u.arbitrary()? })
    };
    Ok(match u.int_in_range(0..=5)? {
        0 => MapRequest::Auto,
        1 => MapRequest::Subids,
        2 => MapRequest::All,
        _ => MapRequest::Ranges(several(u, range)?),
    })
}

fn offset(u: &mut Unstructured<'_>) -> Result<ClockOffset> {
    Ok(ClockOffset { seconds: u.arbitrary()?, nanoseconds: u.int_in_range(0..=999_999_999)? })
}

fn join(u: &mut Unstructured<'_>) -> Result<Join> {
    let all: u32 = NAMESPACES.iter().map(|row| row.flag).sum();
    let types = NamespaceSet::from_bits(u32::arbitrary(u)? & all).expect("only known bits");
    Ok(match u.int_in_range(0..=2)? {
        0 => Join::new(JoinSource::Path(text(u)?), types),
        // Descriptors that are not open: the words for a plan look them up.
        1 => Join::new(JoinSource::Fd(u.int_in_range(1 << 20..=1 << 21)?), types),
        _ => {
            let id = NamespaceId { device: u.arbitrary()?, inode: u.arbitrary()?, id: u.arbitrary()? };
            Join::new(JoinSource::Id(id, u.arbitrary()?), types)
        }
    })
}
