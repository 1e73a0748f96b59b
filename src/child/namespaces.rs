//! Namespaces: entered, noted, kept.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nix::errno::Errno;

use super::Run;
use crate::namespace::NamespaceSet;
use crate::options::Join;
use crate::step::OWN_FILES;
use crate::sys;

/// More makes no sense: there are eight types.
pub const MAX_JOINS: usize = 64;

impl Run<'_> {
    /// Enters the namespaces. What the caller may not enter now, it may after it has entered the user namespace; what
    /// it may enter only now, it must before: so twice around the user namespace, as nsenter(1) does.
    pub(crate) fn setns(&self, joins: &[Join]) -> sys::Result<()> {
        let is_user = |join: &Join| join.types == NamespaceSet::USER;
        let is_mnt = |join: &Join| join.types == NamespaceSet::MNT;
        let has_user = joins.iter().any(is_user);
        let mut entered = [false; MAX_JOINS];
        // The mount namespace comes last: it changes the root and the directory.
        for (round, mnt) in [(0, false), (0, true), (1, false), (2, false), (2, true)] {
            for (join, entered) in joins.iter().zip(&mut entered) {
                if *entered || (round == 1) != is_user(join) || (round != 1 && is_mnt(join) != mnt) {
                    continue;
                }
                // There may be more to join than is entered here.
                let opened = self.plan.options.join.iter().zip(&self.extras.joins);
                let fd = opened.rev().find(|(all, _)| all.source == join.source).map_or(-1, |(_, fd)| fd.raw());
                match sys::setns(fd, join.types.bits()) {
                    Ok(()) => *entered = true,
                    Err(Errno::EPERM) if round == 0 && has_user => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn note_namespaces(&self, types: NamespaceSet, by_pidfd: bool) {
        for (index, row) in types.rows() {
            let time = self.time().filter(|_| row.flag == NamespaceSet::TIME.bits());
            let noted = match time {
                // It will be entered last.
                Some(entry) => sys::namespace_numbers(entry.namespace, c""),
                None if by_pidfd => self.own_namespace(row.pidfd_request),
                None => Err(Errno::ENOTTY),
            };
            let by_path = |_| sys::namespace_numbers(libc::AT_FDCWD, OWN_FILES[index]);
            if let Ok((id, inode)) = noted.or_else(by_path) {
                self.report.namespaces[index][0].store(id, Relaxed);
                self.report.namespaces[index][1].store(inode, Relaxed);
            }
        }
    }

    /// The caller closes whatever is there, should a later one fail.
    pub(crate) fn keep(&self, types: NamespaceSet, by_pidfd: bool) -> sys::Result<()> {
        types.rows().try_for_each(|(index, row)| {
            let fd = if by_pidfd {
                sys::pidfd_namespace(self.report.pidfd.load(Acquire), row.pidfd_request)?
            } else {
                sys::openat(libc::AT_FDCWD, OWN_FILES[index], libc::O_RDONLY)?
            };
            self.report.kept[index].store(fd, Release);
            Ok(())
        })
    }

    fn own_namespace(&self, request: u8) -> sys::Result<(u64, u64)> {
        // Left open: it is close-on-exec, and a step that closes it costs as much as execve does.
        let file = sys::pidfd_namespace(self.report.pidfd.load(Acquire), request)?;
        sys::namespace_numbers(file, c"")
    }
}
