//! The control groups of a process, as seen from outside and from its own cgroup namespace, see cgroup_namespaces(7).

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::Target;
use crate::visit::{Action, visit};

/// A process's place in one hierarchy.
pub struct Path {
    /// The number of the hierarchy.
    pub hierarchy: u32,
    /// Its controllers; none for cgroup v2.
    pub controllers: Vec<String>,
    /// As the caller's cgroup namespace has it.
    pub outside: Vec<u8>,
    /// As its own has it.
    pub inside: Option<Vec<u8>>,
}

/// How often both sides are read of a process that keeps moving from one control group to another.
const ATTEMPTS: usize = 10;

/// Its places, and why they could not be seen from inside.
///
/// # Errors
///
/// `ESRCH` when it is gone; what open(2) says.
pub fn paths(target: &Target) -> Result<(Vec<Path>, Option<Errno>), Errno> {
    let mut outside = target.read(c"cgroup")?;
    for _ in 0..ATTEMPTS {
        let inside = from_inside(target);
        let now = target.read(c"cgroup")?;
        if now == outside {
            let paths = lines(&outside).map(|(hierarchy, controllers, path)| Path {
                hierarchy,
                controllers: words(controllers),
                outside: path.to_vec(),
                inside: inside.as_ref().ok().and_then(|text| the_same(text, hierarchy)),
            });
            return Ok((paths.collect(), inside.as_ref().err().copied()));
        }
        outside = now;
    }
    Err(Errno::EAGAIN)
}

/// The kernel writes the paths for who reads them: for the namespace that the reader is in at that moment.
fn from_inside(target: &Target) -> Result<Vec<u8>, Errno> {
    let namespace = target.open(c"ns/cgroup")?;
    let read = Action::Read(target.directory(), c"cgroup");
    let mut answers = visit(namespace.as_raw_fd(), &[read])?.answers;
    Ok(answers.pop().unwrap_or(Err(Errno::ECANCELED))?.bytes())
}

/// `hierarchy:controllers:path`, a line each; the path may have colons, but no newline.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (u32, &[u8], &[u8])> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let number = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        Some((number, fields.next()?, fields.next()?))
    })
}

fn the_same(text: &[u8], wanted: u32) -> Option<Vec<u8>> {
    lines(text).find_map(|(hierarchy, _, path)| (hierarchy == wanted).then(|| path.to_vec()))
}

fn words(controllers: &[u8]) -> Vec<String> {
    let names = controllers.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}
