//! The other texts of /proc and /etc: any bytes, by every reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nslab::{NAMESPACES, fuzz};

fuzz_target!(|text: &[u8]| {
    let (name, euid, ..) = fuzz::status(text);
    assert!(name.len() <= text.len());
    assert!(euid.is_none() || text.windows(4).any(|part| part == b"Uid:"));
    let (words, command) = fuzz::stat(text);
    assert!(words.iter().all(|word| !word.is_empty()));
    assert!(command.is_none_or(|command| !command.contains(&0) && !command.is_empty()));
    assert!(fuzz::cgroups(text).iter().all(|(_, _, path)| !path.contains(&b'\n')));
    let lossy = String::from_utf8_lossy(text);
    assert!(fuzz::shared_memory(&lossy) <= lossy.lines().count());
    let _ = fuzz::clocks(text);
    let _ = fuzz::lines(text);
    if let Some((kind, inode)) = fuzz::namespace_link(text) {
        let shown = format!("{}:[{inode}]", NAMESPACES[kind].name);
        assert!(shown.len() <= text.len());
        assert_eq!(fuzz::namespace_link(shown.as_bytes()), Some((kind, inode)));
    }
});
