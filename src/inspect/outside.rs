//! The ids of a user namespace, as the caller has them.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::credentials;
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
        self.users.iter().fold(inside, |id, map| translate(id, map))
    }

    /// The group.
    #[must_use]
    pub fn gid(&self, inside: u32) -> u32 {
        self.groups.iter().fold(inside, |id, map| translate(id, map))
    }
}

pub(crate) fn translate(id: u32, map: &[[u32; 3]]) -> u32 {
    let range = map.iter().find(|[inside, _, count]| id.checked_sub(*inside).is_some_and(|place| place < *count));
    range.and_then(|[inside, outside, _]| outside.checked_add(id - inside)).unwrap_or(id)
}

/// Who reads his own map sees on its right side the ids of the user namespace above.
fn maps(namespace: &OwnedFd) -> Result<[Map; 2], Errno> {
    let files = [c"/proc/thread-self/uid_map", c"/proc/thread-self/gid_map"];
    let visited = visit(namespace.as_raw_fd(), &files.map(|path| Action::Read(libc::AT_FDCWD, path)))?;
    let mut answers = visited.answers.into_iter();
    let mut next = || credentials::map(&answers.next().unwrap_or(Err(Errno::ECANCELED))?.bytes());
    Ok([next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_translated_where_the_map_leads_to_one() {
        let map = [[0, 1000, 1], [5, u32::MAX - 1, 9]];
        assert_eq!([0, 1, 5, 6].map(|id| translate(id, &map)), [1000, 1, u32::MAX - 1, u32::MAX]);
        // Found by fuzzing: no id is there.
        assert_eq!(translate(7, &map), 7);
    }
}
