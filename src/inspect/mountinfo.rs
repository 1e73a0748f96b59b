//! `/proc/PID/mountinfo`, see proc_pid_mountinfo(5).

use nix::errno::Errno;

use super::procfs;

/// One line; all strings with their escapes undone.
pub struct Mount {
    /// The mount's number, and that of the mount it is on.
    pub id: (u32, u32),
    /// `major:minor` of the file system.
    pub device: String,
    /// Which directory of the file system is mounted.
    pub root: Vec<u8>,
    /// Where.
    pub target: Vec<u8>,
    /// The mount's own options.
    pub options: Vec<Vec<u8>>,
    /// The type of the file system.
    pub fstype: Vec<u8>,
    /// What was mounted.
    pub source: Vec<u8>,
    /// The file system's options.
    pub super_options: Vec<Vec<u8>>,
    /// `shared:`, `master:` and `propagate_from:` a peer group.
    pub groups: [Option<u32>; 3],
    /// It cannot be bound.
    pub unbindable: bool,
}

/// All lines, in the kernel's order.
///
/// # Errors
///
/// `EBADMSG` for what is no such line.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, Errno> {
    lines(text).map(|line| parse_line(line).ok_or(Errno::EBADMSG)).collect()
}

/// The namespaces that are bound to a file: `net:[4026531840]` and where.
pub fn nsfs(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Most lines have not even the word, and are not taken apart.
    let likely = lines(text).filter(|line| line.windows(8).any(|part| part == b" - nsfs "));
    let bound = likely.filter_map(parse_line).filter(|mount| mount.fstype == b"nsfs");
    bound.map(|mount| (mount.root, mount.target)).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    // One space between two fields: the source may be empty.
    let mut fields = line.split(|byte| *byte == b' ');
    let id = (procfs::number(fields.next()?)?, procfs::number(fields.next()?)?);
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let (root, target) = (unescape(fields.next()?), unescape(fields.next()?));
    let options = split_options(fields.next()?);
    let (mut groups, mut unbindable) = ([None; 3], false);
    loop {
        let field = fields.next()?;
        let mut parts = field.splitn(2, |byte| *byte == b':');
        let (tag, value) = (parts.next()?, parts.next());
        match tag {
            b"-" if value.is_none() => break,
            b"shared" => groups[0] = procfs::number(value?),
            b"master" => groups[1] = procfs::number(value?),
            b"propagate_from" => groups[2] = procfs::number(value?),
            b"unbindable" => unbindable = true,
            // "Parsers should ignore all unrecognized optional fields."
            _ => {}
        }
    }
    let (fstype, source) = (unescape(fields.next()?), unescape(fields.next()?));
    let super_options = split_options(fields.next().unwrap_or_default());
    Some(Mount { id, device, root, target, options, fstype, source, super_options, groups, unbindable })
}

/// At the commas, of which those in a value are escaped, or between quotation marks (a SELinux context).
fn split_options(text: &[u8]) -> Vec<Vec<u8>> {
    let mut quoted = false;
    let parts = text.split(|byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    parts.filter(|part| !part.is_empty()).map(unescape).collect()
}

/// Undoes `\040`: a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (byte, length) = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 4)
            }
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &[u8]) -> Mount {
        parse(line).ok().and_then(|mut mounts| mounts.pop()).expect("a line")
    }

    #[test]
    fn optional_fields_come_in_any_order_and_may_be_unknown() {
        let mount =
            one(b"36 35 98:0 /mnt1 /mnt2 rw,noatime new:7 propagate_from:3 master:1 shared:2 x - ext3 /dev/r rw\n");
        assert_eq!((mount.id, mount.device.as_str()), ((36, 35), "98:0"));
        assert_eq!((mount.groups, mount.unbindable), ([Some(2), Some(1), Some(3)], false));
        assert_eq!(mount.options, [b"rw".to_vec(), b"noatime".to_vec()]);
        assert!(one(b"1 1 0:1 / / rw unbindable - tmpfs t rw").unbindable);
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_stay() {
        let mount =
            one(b"1 1 0:1 /a\\134040 /b\\040\\011\\012\\\\x\xff rw - fuse.x\\043 a\\040b rw,l=a\\054b\\09,c=\"x,y\"");
        assert_eq!(mount.root, b"/a\\040");
        assert_eq!(mount.target, b"/b \t\n\\\\x\xff");
        assert_eq!((mount.fstype, mount.source), (b"fuse.x#".to_vec(), b"a b".to_vec()));
        assert_eq!(mount.super_options, [b"rw".to_vec(), b"l=a,b\\09".to_vec(), b"c=\"x,y\"".to_vec()]);
    }

    #[test]
    fn the_source_may_be_empty_and_a_hyphen_may_be_a_name() {
        let mount = one(b"1 1 0:1 / - rw - tmpfs  rw");
        assert_eq!((mount.target, mount.source), (b"-".to_vec(), Vec::new()));
        assert_eq!(mount.super_options, [b"rw".to_vec()]);
        assert_eq!(one(b"1 1 0:1 / / rw - tmpfs - rw").source, b"-");
    }

    #[test]
    fn what_is_cut_off_is_no_line() {
        let line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root";
        for end in 1..line.len() - 9 {
            assert!(matches!(parse(&line[..end]), Err(Errno::EBADMSG)), "{end}");
        }
        assert!(parse(b"x 35 98:0 / / rw - ext3 a rw").is_err());
    }

    #[test]
    fn bound_namespaces_are_found() {
        let text = b"1 1 0:1 / / rw - ext4 /dev/a rw\n2 1 0:4 net:[402] /run/a\\040b rw shared:1 - nsfs nsfs rw\n";
        assert_eq!(nsfs(text), [(b"net:[402]".to_vec(), b"/run/a b".to_vec())]);
        assert_eq!(nsfs(b"1 1 0:1 / / rw - - nsfs rw\n"), []);
    }
}
