//! mountinfo: any bytes, and lines as the kernel writes them, which come back as they were.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use nslab::{fuzz, inspect::mountinfo};

#[derive(Debug, Arbitrary)]
struct Mount<'a> {
    id: (u32, u32),
    root: &'a [u8],
    target: &'a [u8],
    groups: [Option<u32>; 3],
    unbindable: bool,
    unknown: bool,
    fstype: &'a [u8],
    source: &'a [u8],
}

fuzz_target!(|input: (&[u8], Vec<Mount<'_>>)| {
    let (text, mounts) = input;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    if let Ok(parsed) = mountinfo::parse(text) {
        assert_eq!(parsed.len(), lines);
    }
    assert!(fuzz::bound(text).len() <= lines);

    let text: Vec<u8> = mounts.iter().flat_map(line).collect();
    let parsed = mountinfo::parse(&text).expect("lines of the kernel");
    assert_eq!(parsed.len(), mounts.len());
    for (mount, parsed) in mounts.iter().zip(&parsed) {
        assert_eq!((parsed.id, parsed.groups, parsed.unbindable), (mount.id, mount.groups, mount.unbindable));
        assert_eq!((&parsed.root[..], &parsed.target[..]), (mount.root, mount.target));
        assert_eq!((&parsed.fstype[..], &parsed.source[..]), (mount.fstype, mount.source));
        assert_eq!(parsed.options, [b"rw".to_vec(), b"noatime".to_vec()]);
        assert_eq!(parsed.super_options, [b"rw".to_vec()]);
    }
    let bound =
        parsed.iter().filter(|mount| mount.fstype == b"nsfs").map(|mount| (mount.root.clone(), mount.target.clone()));
    assert_eq!(fuzz::bound(&text), bound.collect::<Vec<_>>());
});

/// As the kernel's `show_mountinfo` writes it.
fn line(mount: &Mount<'_>) -> Vec<u8> {
    let mut line = format!("{} {} 98:0 ", mount.id.0, mount.id.1).into_bytes();
    line.extend([mangle(mount.root), mangle(mount.target), b"rw,noatime".to_vec()].join(&b' '));
    for (tag, group) in ["shared", "master", "propagate_from"].iter().zip(mount.groups) {
        line.extend(group.map(|group| format!(" {tag}:{group}")).unwrap_or_default().into_bytes());
    }
    line.extend_from_slice(if mount.unbindable { b" unbindable" } else { b"" });
    line.extend_from_slice(if mount.unknown { b" new:7" } else { b"" });
    line.extend_from_slice(b" - ");
    line.extend([mangle(mount.fstype), mangle(mount.source), b"rw\n".to_vec()].join(&b' '));
    line
}

fn mangle(text: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    text.iter().flat_map(escaped).collect()
}
