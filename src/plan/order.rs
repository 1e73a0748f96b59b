//! The steps of the child, in the order in which the kernel allows them.

use std::ffi::{CStr, CString};
use std::mem::take;
use std::os::fd::RawFd;

use super::{enters_time_first, time_to_enter};
use crate::caller::Caller;
use crate::init::Init;
use crate::mount::Propagation;
use crate::namespace::NamespaceSet;
use crate::options::{ClockOffset, Join, Options};
use crate::step::{Exec, Step};
use crate::sys::CStrArray;

/// What the new namespaces contain, while the child has all capabilities in them.
pub(super) fn kernel_objects(steps: &mut Vec<Step>, o: &Options) {
    let line = |name, offset: Option<ClockOffset>| {
        offset.map_or(String::new(), |o| format!("{name} {} {}\n", o.seconds, o.nanoseconds))
    };
    let offsets = line("monotonic", o.monotonic) + &line("boottime", o.boottime);
    if !offsets.is_empty() {
        steps.push(Step::TimensOffsets(offsets));
    }
    if o.flags.contains(NamespaceSet::MNT) {
        let propagation = o.propagation.unwrap_or(Propagation::Private);
        if let Some((words, flags)) = propagation.mount_flags() {
            steps.push(Step::Propagation(words, flags));
        }
        if let Some(path) = &o.mount_proc {
            if propagation != Propagation::Private {
                steps.push(Step::MakePrivate(path.clone()));
            }
            steps.push(Step::MountProc(path.clone()));
        }
    }
    if o.loopback {
        steps.push(Step::Loopback);
    }
    steps.extend(o.hostname.clone().map(Step::Sethostname));
    steps.extend(o.domainname.clone().map(Step::Setdomainname));
}

/// What `subprocess` sets, in its order: the directory before the ids, the ids last.
pub(super) fn process(steps: &mut Vec<Step>, o: &Options, caller: &Caller, setgroups_denied: bool) {
    steps.push(Step::Stdio);
    steps.extend(o.cwd.clone().map(Step::Chdir));
    steps.extend(o.umask.map(Step::Umask));
    if o.restore_signals {
        steps.push(Step::RestoreSignals);
    }
    if o.start_new_session || o.init == Some(Init::Alone) {
        steps.push(Step::Setsid);
    }
    steps.extend(o.process_group.map(Step::Setpgid));
    if let Some(groups) = &o.extra_groups {
        // Where setgroups(2) is denied, "none" is still true of who has none but his own.
        let none_left = caller.groups.iter().all(|gid| *gid == caller.egid);
        if !(groups.is_empty() && setgroups_denied && none_left) {
            steps.push(Step::ExtraGroups(groups.clone()));
        }
    }
    if o.user.is_some() && time_to_enter(o).is_some() && !enters_time_first(o.flags) {
        steps.push(Step::KeepCapabilities);
    }
    steps.extend(o.group.map(Step::Setgid));
    steps.extend(o.user.map(Step::Setuid));
}

/// What must come last: a change of ids clears the parent-death signal, and every step before may need descriptors.
pub(super) fn last_steps(steps: &mut Vec<Step>, o: &mut Options, caller: &Caller) {
    if o.init != Some(Init::AboveProgram) {
        steps.extend(o.kill_child.map(Step::ParentDeathSignal));
    }
    if o.init == Some(Init::Alone) {
        // It closes everything itself, but what it lives by.
        steps.push(Step::ExecInit(CStrArray::new(take(&mut o.argv))));
        return;
    }
    if o.close_fds {
        let mut keep: Vec<RawFd> = o.pass_fds.iter().copied().filter(|fd| *fd > 2).collect();
        keep.sort_unstable();
        keep.dedup();
        steps.push(Step::CloseFds(gaps(&keep)));
    }
    if !o.pass_fds.is_empty() {
        steps.push(Step::PassFds(o.pass_fds.clone()));
    }
    steps.push(Step::SignalMask);
    if let Some(join) = time_to_enter(o).filter(|_| !enters_time_first(o.flags)) {
        steps.push(Step::EnterTime(Join { types: NamespaceSet::TIME, ..join.clone() }));
    }
    let envp = o.env.take().map_or_else(|| caller.environment.clone(), CStrArray::new);
    let candidates = candidates(&o.executable, &envp);
    let argv = CStrArray::new(take(&mut o.argv));
    steps.push(Step::Execve(Box::new(Exec { candidates, argv, envp })));
}

/// The ranges of descriptors above 2 between those to keep.
fn gaps(keep: &[RawFd]) -> Vec<(u32, u32)> {
    let mut first = 3;
    let mut ranges = Vec::with_capacity(keep.len() + 1);
    for fd in keep.iter().map(|fd| fd.cast_unsigned()) {
        if fd > first {
            ranges.push((first, fd - 1));
        }
        first = fd + 1;
    }
    ranges.push((first, u32::MAX));
    ranges
}

/// Where the program may be, as `os.get_exec_path` has it.
fn candidates(executable: &CStr, envp: &CStrArray) -> Vec<CString> {
    let name = executable.to_bytes();
    if name.contains(&b'/') {
        return vec![executable.to_owned()];
    }
    let path = envp.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    let dirs = path.unwrap_or(b"/bin:/usr/bin").split(|byte| *byte == b':');
    let file = |dir: &[u8]| {
        let slash: &[u8] = if dir.is_empty() || dir.ends_with(b"/") { b"" } else { b"/" };
        CString::new([dir, slash, name].concat()).ok()
    };
    dirs.filter_map(file).collect()
}
