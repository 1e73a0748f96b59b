//! The steps of a plan: what each is called, and what it does in the child.

mod shown;

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use nix::errno::Errno;

pub(crate) use self::shown::join_text;
use crate::child::{self, Run};
use crate::namespace::{NAMESPACES, NamespaceSet};
use crate::options::Join;
use crate::sys::{self, CStrArray};

/// One thing that happens between the call and the program, with all it needs.
#[derive(Clone)]
pub enum Step {
    /// Open the namespace files that are given as paths.
    OpenNs(Vec<Join>),
    /// Make the next process, in these new namespaces.
    Clone(NamespaceSet),
    /// Enter existing namespaces.
    Setns(Vec<Join>),
    /// What `CLONE_CLEAR_SIGHAND` does, where there is only clone(2).
    ClearHandlers,
    /// Make a namespace that clone(2) has no flag for.
    Unshare(NamespaceSet),
    /// Wait until the intermediate process has written the id maps.
    AwaitMaps,
    /// Write one of the id map files.
    WriteMap(MapFile, Whose, String),
    /// Have newuidmap(1) or newgidmap(1) write it.
    MapHelper(MapFile, CString, Vec<CString>),
    /// Set the clock offsets.
    TimensOffsets(String),
    /// Change the propagation of every mount: what it is called, the flags of mount(2).
    Propagation(&'static str, u64),
    /// Keep a mount over this directory from reaching other namespaces.
    MakePrivate(CString),
    /// Mount a fresh proc(5).
    MountProc(CString),
    /// Bring `lo` up.
    Loopback,
    /// Set the host name.
    Sethostname(Vec<u8>),
    /// Set the NIS domain name.
    Setdomainname(Vec<u8>),
    /// Move the caller's descriptors to 0, 1 and 2.
    Stdio,
    /// Let these descriptors survive the execve.
    PassFds(Vec<RawFd>),
    /// Change the directory.
    Chdir(CString),
    /// Set the file mode creation mask.
    Umask(u32),
    /// Set the signals that Python ignores back to their defaults.
    RestoreSignals,
    /// Start a session.
    Setsid,
    /// Join or start a process group.
    Setpgid(i32),
    /// Set the supplementary groups.
    ExtraGroups(Vec<u32>),
    /// Keep the capabilities over the next change of ids, until the execve.
    KeepCapabilities,
    /// Set the group ids.
    Setgid(u32),
    /// Set the user ids.
    Setuid(u32),
    /// Have a descriptor table of its own.
    UnshareFiles,
    /// Note which namespaces the program gets, by its pidfd or by `/proc`: it may be gone before the parent can look.
    NoteNamespaces(NamespaceSet, bool),
    /// Ask for a signal at the end of the parent.
    ParentDeathSignal(i32),
    /// Close every descriptor in these ranges.
    CloseFds(Vec<(u32, u32)>),
    /// Give the program the caller's signal mask.
    SignalMask,
    /// Enter a time namespace, by a program in between that then executes the one that is meant.
    EnterTime(Join),
    /// Execute the program: the first of these paths that exists.
    Execve(Box<Exec>),
    /// Tell the caller which process this is, by the socket to the init.
    SendPidfd,
    /// Open the new namespaces in the descriptor table of the caller, by the pidfd or by `/proc`.
    Keep(NamespaceSet, bool),
    /// Become the init: these are its arguments.
    ExecInit(CStrArray),
}

/// The three files that map ids, see user_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapFile {
    /// `/proc/PID/uid_map`
    Users,
    /// `/proc/PID/gid_map`
    Groups,
    /// `/proc/PID/setgroups`
    Setgroups,
}

impl MapFile {
    /// The file's name in `/proc/PID`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "uid_map",
            Self::Groups => "gid_map",
            Self::Setgroups => "setgroups",
        }
    }

    fn helper(self) -> &'static str {
        if self == Self::Groups { "newgidmap" } else { "newuidmap" }
    }

    fn of_self(self) -> &'static CStr {
        match self {
            Self::Users => c"/proc/self/uid_map",
            Self::Groups => c"/proc/self/gid_map",
            Self::Setgroups => c"/proc/self/setgroups",
        }
    }
}

/// Whose id map is written: a process may write only a one-id map for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The writer's.
    Own,
    /// The child's, by the intermediate process, which is still in the parent user namespace.
    Childs,
}

/// Everything execve(2) needs.
#[derive(Clone)]
pub struct Exec {
    /// The paths to try, in order.
    pub candidates: Vec<CString>,
    /// The arguments.
    pub argv: CStrArray,
    /// The environment.
    pub envp: CStrArray,
}

impl Step {
    /// The name that errors and timelines use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenNs(_) => "open_ns",
            Self::Clone(_) => "clone",
            Self::Setns(_) | Self::EnterTime(_) => "setns",
            Self::ClearHandlers => "clear_sighand",
            Self::Unshare(_) => "unshare",
            Self::AwaitMaps => "await_maps",
            Self::WriteMap(file, ..) => file.name(),
            Self::MapHelper(file, ..) => file.helper(),
            Self::TimensOffsets(_) => "timens_offsets",
            Self::Propagation(..) | Self::MakePrivate(_) => "propagation",
            Self::MountProc(_) => "mount_proc",
            Self::Loopback => "loopback",
            Self::Sethostname(_) => "sethostname",
            Self::Setdomainname(_) => "setdomainname",
            Self::Stdio => "stdio",
            Self::PassFds(_) => "pass_fds",
            Self::Chdir(_) => "chdir",
            Self::Umask(_) => "umask",
            Self::RestoreSignals => "restore_signals",
            Self::Setsid => "setsid",
            Self::Setpgid(_) => "setpgid",
            Self::ExtraGroups(_) => "extra_groups",
            Self::KeepCapabilities => "keep_caps",
            Self::Setgid(_) => "setgid",
            Self::Setuid(_) => "setuid",
            Self::UnshareFiles => "unshare_files",
            Self::NoteNamespaces(..) => "note_namespaces",
            Self::ParentDeathSignal(_) => "pdeathsig",
            Self::CloseFds(_) => "close_fds",
            Self::SignalMask => "sigmask",
            Self::Execve(_) => "execve",
            Self::SendPidfd => "send_pidfd",
            Self::Keep(..) => "keep",
            Self::ExecInit(_) => "init",
        }
    }

    /// Does it. Runs in the child: see the rules at the top of `child.rs`.
    pub(crate) fn run(&self, run: &Run<'_>) -> sys::Result<()> {
        match self {
            Self::Setns(joins) => run.setns(joins),
            Self::ClearHandlers => sys::clear_handlers(),
            Self::Unshare(types) => sys::unshare(types.bits()),
            Self::AwaitMaps => run.await_maps(),
            Self::WriteMap(file, Whose::Own, text) => run.write_proc(file.of_self(), text.as_bytes()),
            Self::WriteMap(file, Whose::Childs, text) => run.write_childs(file.name(), text.as_bytes()),
            Self::MapHelper(file, ..) => run.map_helper(*file),
            Self::TimensOffsets(text) => run.write_proc(c"/proc/self/timens_offsets", text.as_bytes()),
            Self::Propagation(_, flags) => sys::mount(c"none", c"/", None, *flags),
            Self::MakePrivate(_) | Self::MountProc(_) => self.mount_in_place().unwrap_or(Ok(())),
            Self::Loopback => {
                let socket = sys::interface_socket()?;
                let up = sys::interface_up(socket, c"lo");
                sys::close(socket);
                up
            }
            Self::Sethostname(name) => sys::sethostname(name),
            Self::Setdomainname(name) => sys::setdomainname(name),
            Self::Stdio => run.move_stdio(),
            Self::PassFds(fds) => fds.iter().try_for_each(|fd| sys::set_inheritable(*fd)),
            Self::Chdir(path) => sys::chdir(path),
            Self::Umask(mask) => sys::umask(*mask),
            Self::RestoreSignals => {
                sys::default_signal(libc::SIGPIPE)?;
                sys::default_signal(libc::SIGXFSZ)
            }
            Self::Setsid => sys::setsid(),
            Self::Setpgid(group) => sys::setpgid(*group),
            Self::ExtraGroups(groups) => sys::setgroups(groups),
            Self::KeepCapabilities => sys::prctl(libc::PR_SET_KEEPCAPS, 1).map(|_| ()),
            Self::Setgid(gid) => sys::setgid(*gid),
            Self::Setuid(uid) => sys::setuid(*uid),
            Self::UnshareFiles => sys::unshare(libc::CLONE_FILES.cast_unsigned()),
            Self::NoteNamespaces(types, by_pidfd) => {
                run.note_namespaces(*types, *by_pidfd);
                Ok(())
            }
            Self::ParentDeathSignal(signal) => run.parent_death_signal(*signal),
            Self::CloseFds(ranges) => run.close_fds(ranges),
            Self::SignalMask => sys::set_signal_mask(run.mask).map(|_| ()),
            Self::EnterTime(_) => Err(run.enter_time()),
            Self::Execve(exec) => Err(child::execve(exec)),
            Self::SendPidfd => run.send_pidfd(),
            Self::Keep(types, by_pidfd) => run.keep(*types, *by_pidfd),
            Self::ExecInit(argv) => Err(run.exec_init(argv)),
            // The process that makes the next one does these itself.
            Self::OpenNs(_) | Self::Clone(_) => Ok(()),
        }
    }

    /// Mounts a proc(5), which shows the pid namespace of who mounts it. `None` if the step is another.
    pub(crate) fn mount_in_place(&self) -> Option<sys::Result<()>> {
        match self {
            Self::MakePrivate(path) => {
                let made = sys::mount(c"none", path, None, libc::MS_REC | libc::MS_PRIVATE);
                // No mount point is there: what will be travels as all that is mounted below the same mount, as asked.
                Some(if made == Err(Errno::EINVAL) { Ok(()) } else { made })
            }
            Self::MountProc(path) => {
                let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
                Some(sys::mount(c"proc", path, Some(c"proc"), flags))
            }
            _ => None,
        }
    }
}

/// The file of each type that names what the program will have.
pub(crate) static OWN_FILES: [&CStr; NAMESPACES.len()] = [
    c"/proc/self/ns/cgroup",
    c"/proc/self/ns/ipc",
    c"/proc/self/ns/mnt",
    c"/proc/self/ns/net",
    c"/proc/self/ns/pid",
    c"/proc/self/ns/time_for_children",
    c"/proc/self/ns/user",
    c"/proc/self/ns/uts",
];
