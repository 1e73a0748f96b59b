//! The rules: what can be asked for together, and what the kernel would never accept.

use crate::caller::Caller;
use crate::child::MAX_JOINS;
use crate::error::Error;
use crate::init::Init;
use crate::namespace::NamespaceSet;
use crate::options::{ClockOffset, Options};

/// Every option that would have no effect, or that the kernel could never accept, is refused.
pub fn check(o: &Options, caller: &Caller) -> Result<(), Error> {
    if o.argv.is_empty() {
        return Err(Error::invalid("argv must not be empty: its first item names the program"));
    }
    let needs = [
        ("hostname", o.hostname.is_some(), NamespaceSet::UTS),
        ("domainname", o.domainname.is_some(), NamespaceSet::UTS),
        ("map_root_user", o.map_root_user, NamespaceSet::USER),
        ("map_current_user", o.map_current_user, NamespaceSet::USER),
        ("map_users", o.map_users.is_some(), NamespaceSet::USER),
        ("map_groups", o.map_groups.is_some(), NamespaceSet::USER),
        ("setgroups", o.setgroups.is_some(), NamespaceSet::USER),
        ("propagation", o.propagation.is_some(), NamespaceSet::MNT),
        ("mount_proc", o.mount_proc.is_some(), NamespaceSet::MNT.union(NamespaceSet::PID)),
        ("loopback", o.loopback, NamespaceSet::NET),
        ("monotonic", o.monotonic.is_some(), NamespaceSet::TIME),
        ("boottime", o.boottime.is_some(), NamespaceSet::TIME),
        ("init", o.init == Some(Init::AboveProgram), NamespaceSet::PID),
    ];
    for (option, given, types) in needs {
        if given && !o.flags.contains(types) {
            let plural = if types.rows().count() > 1 { "s" } else { "" };
            let missing = types.without(o.flags).names(" ");
            let all = types.names(" and ");
            let message = format!("{option} needs the {all} namespace{plural} (add {missing:?} to the flags)");
            return Err(Error::Invalid(message));
        }
    }
    for (option, name) in [("hostname", &o.hostname), ("domainname", &o.domainname)] {
        check_name(option, name.as_deref().unwrap_or_default())?;
    }
    if o.map_root_user && o.map_current_user {
        return Err(Error::invalid("map_root_user and map_current_user exclude each other: choose one"));
    }
    if let Some(fd) = o.pass_fds.iter().find(|fd| **fd < 0) {
        return Err(Error::invalid(format!("pass_fds must be open descriptors, not {fd}")));
    }
    if o.join.len() > MAX_JOINS {
        return Err(Error::invalid(format!("join takes at most {MAX_JOINS} namespaces")));
    }
    check_ids(o)?;
    check_signal(o)?;
    check_offset("monotonic", o.monotonic, caller.clocks[0])?;
    check_offset("boottime", o.boottime, caller.clocks[1])
}

/// `__NEW_UTS_LEN` is 64; the kernel would take a NUL and show the name up to it.
fn check_name(option: &str, name: &[u8]) -> Result<(), Error> {
    if name.len() > 64 {
        return Err(Error::invalid(format!("{option} is {} bytes long; the kernel takes at most 64", name.len())));
    }
    if name.contains(&0) {
        return Err(Error::invalid(format!("{option} contains a NUL byte, at which the kernel would cut it off")));
    }
    Ok(())
}

/// For setreuid(2) and setgroups(2) the highest number is none: "leave it as it is".
fn check_ids(o: &Options) -> Result<(), Error> {
    let groups = o.extra_groups.iter().flatten();
    if o.user.iter().chain(&o.group).chain(groups).any(|&id| id == u32::MAX) {
        return Err(Error::invalid(format!("{} is no id: for the kernel it means to leave it as it is", u32::MAX)));
    }
    Ok(())
}

fn check_signal(o: &Options) -> Result<(), Error> {
    let Some(signal) = o.kill_child else { return Ok(()) };
    if !(1..=64).contains(&signal) {
        return Err(Error::invalid(format!("kill_child must be True or a signal from 1 to 64, not {signal}")));
    }
    if signal != libc::SIGKILL && o.init == Some(Init::AboveProgram) {
        return Err(Error::invalid(format!(
            "kill_child={signal} is not for a program below an init: with that the kernel ends all of them at once, by \
             SIGKILL (use kill_child=True)"
        )));
    }
    if signal != libc::SIGKILL && o.flags.contains(NamespaceSet::PID) {
        return Err(Error::invalid(format!(
            "kill_child={signal} may have no effect on a PID 1, which ignores every signal it has no handler for, \
             except SIGKILL (use kill_child=True)"
        )));
    }
    Ok(())
}

/// The kernel's ERANGE rule: the shifted clock may be neither negative nor beyond half of what `ktime_t` holds.
fn check_offset(option: &str, offset: Option<ClockOffset>, now: i64) -> Result<(), Error> {
    const MOST: i64 = i64::MAX / 1_000_000_000 / 2;
    let Some(offset) = offset else { return Ok(()) };
    if offset.seconds < -now {
        return Err(Error::invalid(format!(
            "{option}={} would make the clock negative; it is at {now} s, so take at least {}",
            offset.seconds, -now
        )));
    }
    if offset.seconds > MOST - now - 1 {
        return Err(Error::invalid(format!(
            "{option}={} is beyond what the kernel takes: at most {} s",
            offset.seconds,
            MOST - now - 1
        )));
    }
    Ok(())
}
