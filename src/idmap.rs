//! Id maps: what may be asked for, how ranges combine, the kernel's text format and limits, see user_namespaces(7).

use std::ffi::CString;
use std::fmt::Write;

use crate::caller::Caller;
use crate::error::Error;
use crate::options::Options;
use crate::step::{MapFile, Step, Whose};

/// `count` ids from `inside` on are the ids from `outside` on in the parent user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The forms of unshare(1)'s `--map-users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapRequest {
    /// These ranges.
    Ranges(Vec<IdRange>),
    /// The caller's first block of subordinate ids, from 0 on.
    Auto,
    /// The caller's first block of subordinate ids, each to itself.
    Subids,
    /// Every id the caller's own user namespace has, each to itself.
    All,
}

/// The kernel's limit on lines (`UID_GID_MAP_MAX_EXTENTS`).
const MAX_LINES: usize = 340;
/// A map must be written at once, in less than a page.
const MAX_TEXT: usize = 4095;

/// The ids that "auto", "subids" and "all" stand for on this machine.
#[derive(Debug, Default, Clone)]
pub struct Available {
    /// The first block of subordinate ids, as (first, count).
    pub subordinate: Option<(u32, u32)>,
    /// The ids of the caller's own user namespace, as (first, count).
    pub own: Vec<(u32, u32)>,
}

/// Resolves a request, with the one id that `map_root_user` or `map_current_user` adds, into checked ranges.
///
/// `option` names the option in errors.
pub fn resolve(
    option: &str,
    request: Option<&MapRequest>,
    single: Option<IdRange>,
    available: &Available,
) -> Result<Vec<IdRange>, String> {
    let block = || {
        let kind = if option == "map_users" { "uid" } else { "gid" };
        available.subordinate.ok_or_else(|| {
            format!("{option}: /etc/sub{kind} has no range for this user (usermod --add-sub{kind}s FIRST-LAST USER)")
        })
    };
    let mut ranges = match request {
        None => Vec::new(),
        Some(MapRequest::Ranges(ranges)) if ranges.is_empty() => return Err(format!("{option} must not be empty")),
        Some(MapRequest::Ranges(ranges)) => ranges.clone(),
        Some(MapRequest::All) => {
            let own = available.own.iter();
            own.map(|&(first, count)| IdRange { inside: first, outside: first, count }).collect()
        }
        Some(MapRequest::Subids) => {
            let (first, count) = block()?;
            vec![IdRange { inside: first, outside: first, count }]
        }
        Some(MapRequest::Auto) => {
            let (first, count) = block()?;
            vec![IdRange { inside: 0, outside: first, count }]
        }
    };
    if let Some(single) = single {
        if !matches!(request, None | Some(MapRequest::Ranges(_))) {
            ranges = make_room(&ranges, single, matches!(request, Some(MapRequest::Auto)));
        }
        ranges.insert(0, single);
    }
    if request.is_some() || single.is_some() {
        check(option, &ranges)?;
    }
    Ok(ranges)
}

/// Takes the ids of `single` out of both sides; `shift` closes the gap inside, as unshare(1)'s "auto" does, where
/// otherwise each id keeps its partner.
fn make_room(ranges: &[IdRange], single: IdRange, shift: bool) -> Vec<IdRange> {
    let mut room = Vec::new();
    let mut push = |inside: u64, outside: u64, count: u64| {
        if let (Ok(inside), Ok(outside), Ok(count @ 1..)) = (inside.try_into(), outside.try_into(), count.try_into()) {
            room.push(IdRange { inside, outside, count });
        }
    };
    for range in ranges {
        let (inside, outside, count) = (u64::from(range.inside), u64::from(range.outside), u64::from(range.count));
        let hole_in = u64::from(single.inside).checked_sub(inside).filter(|n| *n < count);
        let hole_out = u64::from(single.outside).checked_sub(outside).filter(|n| *n < count);
        if shift {
            // Pair what is left of the outside ids with the inside ids from the start on, leaving out `single.inside`.
            let cuts = [hole_in.unwrap_or(count), hole_out.unwrap_or(count)];
            let (low, high) = (cuts[0].min(cuts[1]), cuts[0].max(cuts[1]));
            let skip_in = |n| u64::from(hole_in.is_some_and(|hole| n >= hole));
            let skip_out = |n| u64::from(hole_out.is_some_and(|hole| n >= hole));
            let end = count - u64::from(hole_out.is_some());
            let bounds = [0, low, high.min(end), end];
            for pair in bounds.windows(2) {
                let (from, to) = (pair[0], pair[1]);
                push(inside + from + skip_in(from), outside + from + skip_out(from), to.saturating_sub(from));
            }
        } else {
            let mut holes: Vec<u64> = hole_in.into_iter().chain(hole_out).collect();
            holes.sort_unstable();
            holes.dedup();
            let mut from = 0;
            for hole in holes.into_iter().chain([count]) {
                push(inside + from, outside + from, hole - from);
                from = hole + 1;
            }
        }
    }
    room
}

/// The kernel's own rules, said before anything is cloned.
fn check(option: &str, ranges: &[IdRange]) -> Result<(), String> {
    if ranges.is_empty() {
        return Err(format!("{option} must not be empty"));
    }
    if ranges.len() > MAX_LINES {
        return Err(format!("{option} has {} ranges; the kernel takes at most {MAX_LINES}", ranges.len()));
    }
    for (i, a) in ranges.iter().enumerate() {
        let shown = (a.inside, a.outside, a.count);
        if a.count == 0 {
            return Err(format!("{option}: the count in {shown:?} must be at least 1"));
        }
        // (uid_t)-1 means "no id", so the last id is 4294967294.
        for first in [a.inside, a.outside] {
            if u64::from(first) + u64::from(a.count) > u64::from(u32::MAX) {
                return Err(format!("{option}: the range {shown:?} goes beyond the last id, 4294967294"));
            }
        }
        for b in &ranges[..i] {
            let meet = |x: u32, y: u32| {
                u64::from(x) < u64::from(y) + u64::from(b.count) && u64::from(y) < u64::from(x) + u64::from(a.count)
            };
            let other = (b.inside, b.outside, b.count);
            if meet(a.inside, b.inside) {
                return Err(format!("{option}: {other:?} and {shown:?} overlap inside"));
            }
            if meet(a.outside, b.outside) {
                return Err(format!("{option}: {other:?} and {shown:?} overlap outside"));
            }
        }
    }
    let length = text(ranges).len();
    if length > MAX_TEXT {
        return Err(format!("{option} is {length} bytes long in the kernel's format, which takes at most {MAX_TEXT}"));
    }
    Ok(())
}

/// What `/proc/PID/uid_map` takes.
#[must_use]
pub fn text(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges {
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.count);
    }
    text
}

/// The id map steps, and who takes them.
pub struct Maps {
    /// In their order.
    pub steps: Vec<Step>,
    /// By somebody outside of the new user namespace.
    pub outside: bool,
    /// Whether setgroups(2) is denied then.
    pub setgroups_denied: bool,
}

/// The steps for the maps of these options.
///
/// # Errors
///
/// [`Error::Invalid`].
pub fn plan(o: &Options, caller: &Caller) -> Result<Maps, Error> {
    let one = |id: u32| {
        let inside = if o.map_root_user { 0 } else { id };
        (o.map_root_user || o.map_current_user).then_some(IdRange { inside, outside: id, count: 1 })
    };
    let ranges = |option, request: &Option<_>, id, available| {
        resolve(option, request.as_ref(), one(id), available).map_err(Error::Invalid)
    };
    let users = ranges("map_users", &o.map_users, caller.euid, &caller.users)?;
    let groups = ranges("map_groups", &o.map_groups, caller.egid, &caller.groups_available)?;

    // user_namespaces(7): a process may map itself, one id, if its own effective one is outside; and its group only
    // after it has given up setgroups(2).
    let is_own = |ranges: &[IdRange], id: u32| matches!(ranges, [range] if range.outside == id && range.count == 1);
    let own_user = users.is_empty() || is_own(&users, caller.euid);
    let own_group = groups.is_empty() || (is_own(&groups, caller.egid) && o.setgroups != Some(true));
    let outside = !(own_user && own_group);
    let deny = match o.setgroups {
        Some(allow) => !allow,
        None => !groups.is_empty() && is_own(&groups, caller.egid) && !(outside && caller.may_map_groups),
    };
    let whose = if outside { Whose::Childs } else { Whose::Own };

    let mut steps = Vec::new();
    if !users.is_empty() {
        let direct = !outside || caller.may_map_users || own_user;
        steps.push(map_step(MapFile::Users, whose, &users, if direct { None } else { caller.newuidmap.as_ref() }));
    }
    if deny {
        steps.push(Step::WriteMap(MapFile::Setgroups, whose, "deny".to_owned()));
    } else if o.setgroups == Some(true) {
        steps.push(Step::WriteMap(MapFile::Setgroups, whose, "allow".to_owned()));
    }
    if !groups.is_empty() {
        // For a group that is the caller's own newgidmap(1) would deny setgroups(2), whatever was asked for.
        let direct = !outside || caller.may_map_groups || is_own(&groups, caller.egid);
        steps.push(map_step(MapFile::Groups, whose, &groups, if direct { None } else { caller.newgidmap.as_ref() }));
    }
    Ok(Maps { steps, outside, setgroups_denied: deny })
}

fn map_step(file: MapFile, whose: Whose, ranges: &[IdRange], helper: Option<&CString>) -> Step {
    let text = text(ranges);
    match helper {
        Some(program) => {
            let words = text.split_whitespace().filter_map(|word| CString::new(word).ok());
            Step::MapHelper(file, program.clone(), words.collect())
        }
        None => Step::WriteMap(file, whose, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    fn auto(single: IdRange, block: (u32, u32)) -> Vec<IdRange> {
        let available = Available { subordinate: Some(block), own: Vec::new() };
        resolve("map_users", Some(&MapRequest::Auto), Some(single), &available).unwrap()
    }

    #[test]
    fn root_and_auto_share_the_ids_as_unshare_does() {
        let block = (100_000, 65_536);
        assert_eq!(auto(range(0, 1000, 1), block), [range(0, 1000, 1), range(1, 100_000, 65_536)]);
        assert_eq!(
            auto(range(5, 1000, 1), block),
            [range(5, 1000, 1), range(0, 100_000, 5), range(6, 100_005, 65_531)]
        );
    }

    #[test]
    fn a_single_id_from_the_block_leaves_it() {
        assert_eq!(auto(range(0, 100, 1), (100, 3)), [range(0, 100, 1), range(1, 101, 2)]);
        assert_eq!(auto(range(9, 101, 1), (100, 3)), [range(9, 101, 1), range(0, 100, 1), range(1, 102, 1)]);
    }

    #[test]
    fn every_pair_stays_outside_the_single_one() {
        for inside in 0..6 {
            for outside in 8..16 {
                let single = range(inside, outside, 1);
                for request in [MapRequest::Auto, MapRequest::Subids] {
                    let available = Available { subordinate: Some((10, 4)), own: Vec::new() };
                    let got = resolve("map_users", Some(&request), Some(single), &available);
                    assert!(got.is_ok(), "{request:?} {single:?}: {got:?}");
                }
            }
        }
    }

    #[test]
    fn limits_are_the_kernels() {
        let many = |n: u32| (0..n).map(|i| range(i, i, 1)).collect::<Vec<_>>();
        assert!(check("map_users", &many(340)).is_ok());
        assert!(check("map_users", &many(341)).unwrap_err().contains("340"));
        assert!(check("map_users", &[range(0, 0, u32::MAX)]).is_ok());
        assert!(check("map_users", &[range(1, 0, u32::MAX)]).is_err());
        assert!(check("map_users", &[range(0, 0, 0)]).is_err());
        assert!(check("map_users", &[range(0, 0, 2), range(1, 5, 1)]).unwrap_err().contains("inside"));
        assert!(check("map_users", &[range(0, 0, 2), range(5, 1, 1)]).unwrap_err().contains("outside"));
    }
}
