//! The ids of a user namespace, as the caller has them.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::sys;
use crate::visit::{Action, own_namespace, visit};

/// Turns the ids of a user namespace below the caller's into the caller's.
#[derive(Default)]
pub struct Outside {
    users: Vec<Map>,
    groups: Vec<Map>,
}

/// The lines of one map: inside, outside, count.
type Map = Vec<[u32; 3]>;

impl Outside {
    /// For the ids of this user namespace; without one, they are the caller's already.
    #[must_use]
    pub fn new(namespace: Option<OwnedFd>) -> Self {
        let mut found = Self::default();
        let own = own_namespace("user");
        let mut level = namespace;
        // A map leads to the user namespace above, which need not be the caller's.
        while let Some(namespace) = level {
            let [users, groups] = maps(&namespace).unwrap_or_default();
            found.users.push(users);
            found.groups.push(groups);
            let above = sys::namespace_parent(namespace.as_raw_fd()).ok();
            level = above.filter(|above| sys::identity(above.as_raw_fd()) != own);
        }
        found
    }

    /// The user; one that has no number inside is 65534 on both sides.
    #[must_use]
    pub fn uid(&self, inside: u32) -> u32 {
        self.users.iter().fold(inside, translate)
    }

    /// The group.
    #[must_use]
    pub fn gid(&self, inside: u32) -> u32 {
        self.groups.iter().fold(inside, translate)
    }
}

fn translate(id: u32, map: &Map) -> u32 {
    let range = map.iter().find(|[inside, _, count]| id.checked_sub(*inside).is_some_and(|place| place < *count));
    range.map_or(id, |[inside, outside, _]| id - inside + outside)
}

/// Who reads his own map sees on its right side the ids of the user namespace above.
fn maps(namespace: &OwnedFd) -> Result<[Map; 2], Errno> {
    let files = [c"/proc/thread-self/uid_map", c"/proc/thread-self/gid_map"];
    let visited = visit(namespace.as_raw_fd(), &files.map(|path| Action::Read(libc::AT_FDCWD, path)))?;
    let mut answers = visited.answers.into_iter();
    let mut next = || Ok(map(&answers.next().unwrap_or(Err(Errno::ECANCELED))?.bytes()));
    Ok([next()?, next()?])
}

fn map(text: &[u8]) -> Map {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
    };
    String::from_utf8_lossy(text).lines().filter_map(line).collect()
}
