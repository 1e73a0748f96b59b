//! Facts about the calling process that the rules of a plan depend on, gathered before them.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs};

use nix::unistd;

use crate::idmap::Available;
use crate::inspect::credentials::IdMaps;
use crate::inspect::{self, credentials};
use crate::namespace::NamespaceSet;
use crate::options::Options;
use crate::sys::{self, CStrArray};

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

/// What a plan must know about who makes it. Only what the options need is looked up.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Caller {
    /// The effective user id.
    pub euid: u32,
    /// The effective group id.
    pub egid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// Whether the kernel would take any uid map from it.
    pub may_map_users: bool,
    /// Whether the kernel would take any gid map from it.
    pub may_map_groups: bool,
    /// newuidmap(1), if it is installed.
    pub newuidmap: Option<CString>,
    /// newgidmap(1), if it is installed.
    pub newgidmap: Option<CString>,
    /// What "auto", "subids" and "all" mean for users.
    pub users: Available,
    /// What "auto", "subids" and "all" mean for groups.
    pub groups_available: Available,
    /// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` of the initial time namespace, in whole seconds.
    pub clocks: [i64; 2],
    /// Whether execve(2), and not the clone, enters the new time namespace (Linux 6.2). Before that a clone with
    /// `CLONE_VM` enters it at once, and takes the clocks of the caller's own vDSO with it.
    pub execve_enters_time: bool,
    /// Whether this kernel opens namespaces by pidfd.
    pub pidfds_show_namespaces: bool,
    /// The environment: what the program inherits, and where `PATH` is.
    pub environment: CStrArray,
}

impl Caller {
    /// Looks up what these options need.
    #[must_use]
    pub fn for_options(options: &Options) -> Self {
        let mut caller = Self { pidfds_show_namespaces: inspect::pidfds_show_namespaces(), ..Self::default() };
        if options.flags.contains(NamespaceSet::TIME) {
            caller.execve_enters_time = kernel() >= (6, 2);
        }
        if options.env.is_none() {
            caller.environment = CStrArray::environment();
        }
        if options.monotonic.is_some() || options.boottime.is_some() {
            caller.clocks = initial_clocks();
        }
        let maps = options.map_users.is_some() || options.map_groups.is_some();
        if maps || options.map_root_user || options.map_current_user || options.extra_groups.is_some() {
            caller.euid = unistd::geteuid().as_raw();
            caller.egid = unistd::getegid().as_raw();
        }
        if options.extra_groups.is_some() {
            let groups = unistd::getgroups().unwrap_or_default();
            caller.groups = groups.into_iter().map(unistd::Gid::as_raw).collect();
        }
        if maps || options.setgroups.is_some() {
            caller.look_up_mapping();
        }
        if options.flags.contains(NamespaceSet::USER) {
            caller.look_from_joined(options);
        }
        caller
    }

    /// Whether it would be the same now, for a plan of which only the environment and the caller's own ids decide.
    #[must_use]
    pub fn is_unchanged(&self, options: &Options) -> bool {
        let maps_own = options.map_root_user || options.map_current_user;
        let is_me = || (self.euid, self.egid) == (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
        (!maps_own || is_me()) && self.environment.is_environment()
    }

    /// A new user namespace is made in the one that is entered first: there the caller has other ids, and every
    /// capability.
    fn look_from_joined(&mut self, options: &Options) {
        let joined = options.join.iter().rev().find(|join| join.types.contains(NamespaceSet::USER));
        let Some(maps) = joined.and_then(|join| IdMaps::of_joined(&join.source)) else { return };
        self.euid = credentials::inside(self.euid, &maps.users);
        self.egid = credentials::inside(self.egid, &maps.groups);
        (self.may_map_users, self.may_map_groups) = (true, true);
        self.users.own = maps.users.into_iter().map(|[inside, _, count]| (inside, count)).collect();
        self.groups_available.own = maps.groups.into_iter().map(|[inside, _, count]| (inside, count)).collect();
    }

    fn look_up_mapping(&mut self) {
        let capabilities = sys::effective_capabilities();
        self.may_map_users = capabilities & CAP_SETUID != 0;
        self.may_map_groups = capabilities & CAP_SETGID != 0;
        self.newuidmap = find_program("newuidmap");
        self.newgidmap = find_program("newgidmap");
        let uid = unistd::getuid();
        let name = unistd::User::from_uid(uid).ok().flatten().map_or(String::new(), |user| user.name);
        let owner = [name, uid.to_string()];
        let available = |subordinate, own| Available {
            subordinate: first_block(&fs::read(subordinate).unwrap_or_default(), &owner),
            own: own_ids(&fs::read(own).unwrap_or_default()),
        };
        self.users = available("/etc/subuid", "/proc/self/uid_map");
        self.groups_available = available("/etc/subgid", "/proc/self/gid_map");
    }
}

/// The release of the running kernel; of one that hides it, the newest.
fn kernel() -> (u32, u32) {
    static RELEASE: OnceLock<(u32, u32)> = OnceLock::new();
    *RELEASE.get_or_init(|| {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        version(&release).unwrap_or((u32::MAX, 0))
    })
}

pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Looks in the `PATH` of this process, as execlp(3) would, but for its relative entries: what is set-user-ID is not to
/// depend on the working directory.
fn find_program(name: &str) -> Option<CString> {
    let path = env::var_os("PATH")?;
    let directories = env::split_paths(&path).filter(|dir| dir.is_absolute());
    let found = directories.map(|dir| dir.join(name)).find(|file| is_executable(file))?;
    CString::new(found.into_os_string().as_bytes()).ok()
}

fn is_executable(file: &Path) -> bool {
    let access = unistd::access(file, unistd::AccessFlags::X_OK);
    file.is_file() && access.is_ok()
}

/// The first line of subuid(5) that belongs to one of these owners: (first, count).
pub(crate) fn first_block(text: &[u8], owners: &[String; 2]) -> Option<(u32, u32)> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let line = OsStr::from_bytes(line).to_str()?;
        let mut fields = line.split(':');
        let owner = fields.next().filter(|owner| !owner.is_empty())?;
        let (first, count) = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        owners.iter().any(|name| name == owner).then_some((first, count))
    })
}

/// The ids that exist in the user namespace of this map, seen from inside.
fn own_ids(text: &[u8]) -> Vec<(u32, u32)> {
    let map = credentials::map(text).unwrap_or_default();
    map.into_iter().map(|[inside, _, count]| (inside, count)).collect()
}

/// The kernel checks offsets against the clocks of the *initial* time namespace, so take the caller's own off.
fn initial_clocks() -> [i64; 2] {
    let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    [("monotonic", libc::CLOCK_MONOTONIC), ("boottime", libc::CLOCK_BOOTTIME)].map(|(name, id)| {
        let now = i64::try_from(sys::clock(id) / 1_000_000_000).unwrap_or(0);
        now - whole_seconds(&text, name).unwrap_or(0)
    })
}

/// The offset of this clock in `timens_offsets`.
pub(crate) fn whole_seconds(text: &str, clock: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(clock)?.split_whitespace().next()?.parse().ok())
}
