//! Mount requests: propagation types and the fresh `/proc`, see mount_namespaces(7) and proc(5).

/// How mount events travel between a new mount namespace and the one it was copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Into the new namespace only.
    Slave,
    /// Both ways.
    Shared,
    /// As each mount had it: what a bare clone(2) does.
    Unchanged,
}

impl Propagation {
    const ALL: [Self; 4] = [Self::Private, Self::Slave, Self::Shared, Self::Unchanged];

    /// The word of unshare(1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Slave => "slave",
            Self::Shared => "shared",
            Self::Unchanged => "unchanged",
        }
    }

    /// The flags of mount(2), in C and as a number.
    #[must_use]
    pub fn mount_flags(self) -> Option<(&'static str, u64)> {
        match self {
            Self::Private => Some(("MS_REC|MS_PRIVATE", libc::MS_REC | libc::MS_PRIVATE)),
            Self::Slave => Some(("MS_REC|MS_SLAVE", libc::MS_REC | libc::MS_SLAVE)),
            Self::Shared => Some(("MS_REC|MS_SHARED", libc::MS_REC | libc::MS_SHARED)),
            Self::Unchanged => None,
        }
    }
}

impl std::str::FromStr for Propagation {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|p| p.name() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::name).join(", ");
            format!("propagation must be one of {words}, not {word:?}")
        })
    }
}
