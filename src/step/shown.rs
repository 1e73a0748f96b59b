//! How a step reads: in an error, and as strace(1) would show it.

use std::ffi::CStr;
use std::fmt;

use super::{Step, Whose};
use crate::namespace::NamespaceType;
use crate::options::{Join, JoinSource};

impl Step {
    /// What the step was about, for an error: the path, the name, the map.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Clone(types) | Self::Unshare(types) | Self::NoteNamespaces(types, _) | Self::Keep(types, _) => {
                types.to_string()
            }
            Self::OpenNs(joins) | Self::Setns(joins) => list(joins.iter().map(join_text)),
            Self::EnterTime(join) => join_text(join),
            Self::WriteMap(_, _, text) | Self::TimensOffsets(text) => text.trim_end().replace('\n', ", "),
            Self::MapHelper(_, program, ranges) => {
                format!(
                    "{} PID {}",
                    program.to_string_lossy(),
                    list_with(" ", ranges.iter().map(|s| s.to_string_lossy()))
                )
            }
            Self::Propagation(words, _) => (*words).to_owned(),
            Self::MakePrivate(path) | Self::MountProc(path) | Self::Chdir(path) => path.to_string_lossy().into_owned(),
            Self::Loopback => "lo".to_owned(),
            Self::Sethostname(name) | Self::Setdomainname(name) => String::from_utf8_lossy(name).into_owned(),
            Self::PassFds(fds) => list(fds),
            Self::Umask(mask) => format!("{mask:#o}"),
            Self::Setpgid(id) | Self::ParentDeathSignal(id) => id.to_string(),
            Self::ExtraGroups(groups) => format!("[{}]", list(groups)),
            Self::Setgid(id) | Self::Setuid(id) => id.to_string(),
            Self::CloseFds(ranges) => {
                list(ranges.iter().map(
                    |(first, last)| {
                        if *last == u32::MAX { format!("{first}-") } else { format!("{first}-{last}") }
                    },
                ))
            }
            Self::Execve(exec) => exec.candidates.last().map_or(String::new(), |p| p.to_string_lossy().into_owned()),
            Self::ExecInit(argv) => list_with(" ", argv.iter().map(CStr::to_string_lossy)),
            Self::RestoreSignals => "SIGPIPE, SIGXFSZ".to_owned(),
            Self::ClearHandlers
            | Self::AwaitMaps
            | Self::UnshareFiles
            | Self::Stdio
            | Self::Setsid
            | Self::SendPidfd
            | Self::KeepCapabilities
            | Self::SignalMask => String::new(),
        }
    }
}

/// As strace(1) shows it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenNs(joins) => {
                let opened = joins.iter().filter(|join| !matches!(join.source, JoinSource::Fd(_)));
                let call = |join| format!("open(\"{}\", O_RDONLY|O_CLOEXEC)", join_shown(join));
                write!(f, "{}", list_with("; ", opened.map(call)))
            }
            Self::Clone(types) => write!(f, "clone3({{flags={types}, exit_signal=SIGCHLD}})"),
            Self::Setns(joins) => {
                let call = |join: &Join| format!("setns({}, {})", join_shown(join), join.types);
                write!(f, "{}", list_with("; ", joins.iter().map(call)))
            }
            Self::Unshare(types) => write!(f, "unshare({types})"),
            Self::AwaitMaps => write!(f, "futex(FUTEX_WAIT)"),
            Self::WriteMap(file, whose, text) => {
                let process = if *whose == Whose::Own { "self" } else { "PID" };
                write!(f, "write(\"/proc/{process}/{}\", {text:?})", file.name())
            }
            Self::TimensOffsets(text) => write!(f, "write(\"/proc/self/timens_offsets\", {text:?})"),
            Self::Propagation(words, _) => write!(f, "mount(\"none\", \"/\", NULL, {words}, NULL)"),
            Self::MakePrivate(path) => write!(f, "mount(\"none\", {path:?}, NULL, MS_REC|MS_PRIVATE, NULL)"),
            Self::MountProc(path) => {
                write!(f, "mount(\"proc\", {path:?}, \"proc\", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)")
            }
            Self::Loopback => write!(f, "ioctl(SIOCSIFFLAGS, {{ifr_name=\"lo\", ifr_flags=IFF_UP}})"),
            Self::Sethostname(name) | Self::Setdomainname(name) => {
                write!(f, "{}(\"{}\", {})", self.name(), name.escape_ascii(), name.len())
            }
            Self::Stdio => write!(f, "dup2(stdin, 0); dup2(stdout, 1); dup2(stderr, 2)"),
            Self::PassFds(fds) => {
                write!(f, "{}", list_with("; ", fds.iter().map(|fd| format!("fcntl({fd}, F_SETFD, 0)"))))
            }
            Self::RestoreSignals => write!(f, "sigaction(SIGPIPE, SIG_DFL); sigaction(SIGXFSZ, SIG_DFL)"),
            Self::Setsid => write!(f, "setsid()"),
            Self::Setpgid(group) => write!(f, "setpgid(0, {group})"),
            Self::ExtraGroups(groups) => write!(f, "setgroups({}, [{}])", groups.len(), list(groups)),
            Self::Setgid(id) => write!(f, "setregid({id}, {id})"),
            Self::Setuid(id) => write!(f, "setreuid({id}, {id})"),
            Self::UnshareFiles => write!(f, "unshare(CLONE_FILES)"),
            Self::NoteNamespaces(types, true) | Self::Keep(types, true) => {
                let call = |row: &NamespaceType| format!("PIDFD_GET_{}_NAMESPACE", row.name.to_uppercase());
                write!(f, "ioctl(pidfd, {})", list_with("); ioctl(pidfd, ", types.rows().map(|(_, row)| call(row))))
            }
            Self::NoteNamespaces(types, false) | Self::Keep(types, false) => {
                let call = |row: &NamespaceType| format!("open(\"/proc/self/ns/{}\")", row.name);
                write!(f, "{}", list_with("; ", types.rows().map(|(_, row)| call(row))))
            }
            Self::ParentDeathSignal(signal) => write!(f, "prctl(PR_SET_PDEATHSIG, {signal})"),
            Self::CloseFds(ranges) => {
                let call = |(first, last): &(u32, u32)| {
                    if *last == u32::MAX {
                        format!("close_range({first}, ~0U, 0)")
                    } else {
                        format!("close_range({first}, {last}, 0)")
                    }
                };
                write!(f, "{}", list_with("; ", ranges.iter().map(call)))
            }
            Self::SignalMask => write!(f, "sigprocmask(SIG_SETMASK, caller's)"),
            Self::Execve(exec) => {
                let argv = exec.argv.iter().map(|arg| format!("{arg:?}"));
                let path = exec.candidates.last().map_or(c"", |path| path.as_c_str());
                write!(f, "execve({path:?}, [{}], {} variables)", list(argv), exec.envp.iter().count())
            }
            Self::EnterTime(join) => {
                write!(f, "execveat(a program in between); setns({}, {})", join_shown(join), join.types)
            }
            Self::KeepCapabilities => write!(f, "prctl(PR_SET_KEEPCAPS, 1)"),
            Self::SendPidfd => write!(f, "sendmsg(init, SCM_RIGHTS, [pidfd])"),
            Self::ExecInit(argv) => {
                write!(f, "execveat(init, \"\", [{}], 0 variables)", list(argv.iter().map(|arg| format!("{arg:?}"))))
            }
            Self::Chdir(path) => write!(f, "chdir({path:?})"),
            Self::MapHelper(_, program, ranges) => {
                let ranges = list_with(" ", ranges.iter().map(|s| s.to_string_lossy()));
                write!(f, "{}({} PID {ranges})", self.name(), program.to_bytes().escape_ascii())
            }
            Self::ClearHandlers | Self::Umask(_) => write!(f, "{}({})", self.name(), self.detail()),
        }
    }
}

/// On one line, whatever bytes are in a path.
fn join_shown(join: &Join) -> String {
    match &join.source {
        JoinSource::Path(path) => path.to_bytes().escape_ascii().to_string(),
        JoinSource::Fd(_) | JoinSource::Id(..) => join_text(join),
    }
}

pub(crate) fn join_text(join: &Join) -> String {
    match &join.source {
        JoinSource::Path(path) => path.to_string_lossy().into_owned(),
        JoinSource::Fd(fd) => format!("fd {fd}"),
        JoinSource::Id(id, _) => {
            format!("{}:[{}]", join.types.names(","), id.inode)
        }
    }
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    list_with(", ", items)
}

fn list_with<T: fmt::Display>(separator: &str, items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}
