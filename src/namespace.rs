//! The table of namespace types: one row per type, everything else is derived from it.

use std::fmt;

/// What the kernel and its manual say about one type of namespace.
#[derive(Debug)]
pub struct NamespaceType {
    /// The name in `/proc/PID/ns` and in everything this library prints.
    pub name: &'static str,
    /// The `CLONE_NEW*` bit.
    pub flag: u32,
    /// The name of that bit in C.
    pub c_name: &'static str,
    /// The switch of unshare(1).
    pub unshare: &'static str,
    /// The file in `/proc/PID/ns` that says where a child of the process will be.
    pub for_children: &'static str,
    /// The number of the ioctl of a pidfd that opens it: the one for children where the types differ in that.
    pub pidfd_request: u8,
    /// The manual page.
    pub man: &'static str,
    /// The first kernel that has it.
    pub since: &'static str,
    /// What it isolates, in one line.
    pub isolates: &'static str,
}

macro_rules! row {
    ($name:literal $flag:ident $unshare:literal $children:literal $request:literal $since:literal $isolates:literal) => {
        NamespaceType {
            name: $name,
            flag: libc::$flag.cast_unsigned(),
            c_name: stringify!($flag),
            unshare: $unshare,
            for_children: $children,
            pidfd_request: $request,
            man: concat!($name, "_namespaces(7)"),
            since: $since,
            isolates: $isolates,
        }
    };
}

/// Every type, in alphabetical order: the order of `/proc/PID/ns` and of all listings.
#[rustfmt::skip]
pub static NAMESPACES: [NamespaceType; 8] = [
    row!("cgroup" CLONE_NEWCGROUP "--cgroup" "cgroup" 1 "4.6" "the root of the control group tree"),
    row!("ipc" CLONE_NEWIPC "--ipc" "ipc" 2 "2.6.19" "System V IPC objects and POSIX message queues"),
    NamespaceType { man: "mount_namespaces(7)", ..row!("mnt" CLONE_NEWNS "--mount" "mnt" 3 "2.4.19" "mount points") },
    NamespaceType { man: "network_namespaces(7)", ..row!("net" CLONE_NEWNET "--net" "net" 4 "2.6.29" "network devices, addresses, ports, routes") },
    row!("pid" CLONE_NEWPID "--pid" "pid_for_children" 5 "2.6.24" "process ids"),
    row!("time" CLONE_NEWTIME "--time" "time_for_children" 8 "5.6" "the boot and monotonic clocks"),
    row!("user" CLONE_NEWUSER "--user" "user" 9 "3.8" "user and group ids, capabilities"),
    row!("uts" CLONE_NEWUTS "--uts" "uts" 10 "2.6.19" "the host name and the NIS domain name"),
];

/// A set of namespace types, kept as the kernel's `CLONE_NEW*` bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceSet(u32);

impl NamespaceSet {
    /// No namespace: a plain child.
    pub const EMPTY: Self = Self(0);
    pub(crate) const ALL: Self = {
        let (mut bits, mut row) = (0, 0);
        while row < NAMESPACES.len() {
            bits |= NAMESPACES[row].flag;
            row += 1;
        }
        Self(bits)
    };
    pub(crate) const IPC: Self = Self(libc::CLONE_NEWIPC.cast_unsigned());
    pub(crate) const MNT: Self = Self(libc::CLONE_NEWNS.cast_unsigned());
    pub(crate) const NET: Self = Self(libc::CLONE_NEWNET.cast_unsigned());
    pub(crate) const PID: Self = Self(libc::CLONE_NEWPID.cast_unsigned());
    pub(crate) const TIME: Self = Self(libc::CLONE_NEWTIME.cast_unsigned());
    pub(crate) const USER: Self = Self(libc::CLONE_NEWUSER.cast_unsigned());
    pub(crate) const UTS: Self = Self(libc::CLONE_NEWUTS.cast_unsigned());

    /// The set with exactly these bits, or `None` if one of them is no namespace.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits & !Self::ALL.0 == 0).then_some(Self(bits))
    }

    /// The `CLONE_NEW*` bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether no type is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every type of `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a type is in both sets.
    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The types of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The types of this set that `other` lacks.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names, joined.
    #[must_use]
    pub fn names(self, separator: &str) -> String {
        self.rows().map(|(_, row)| row.name).collect::<Vec<_>>().join(separator)
    }

    /// The rows of the types in this set, with their positions in the table.
    pub fn rows(self) -> impl Iterator<Item = (usize, &'static NamespaceType)> {
        NAMESPACES.iter().enumerate().filter(move |(_, row)| self.0 & row.flag != 0)
    }
}

/// As in C: `CLONE_NEWIPC|CLONE_NEWUTS`.
impl fmt::Display for NamespaceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("0");
        }
        for (i, (_, row)) in self.rows().enumerate() {
            let bar = if i == 0 { "" } else { "|" };
            write!(f, "{bar}{}", row.c_name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for NamespaceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamespaceSet({self})")
    }
}
