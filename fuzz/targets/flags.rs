//! Sets of namespaces, propagation words and the flags of links: what is accepted is said back as it was.
#![no_main]

use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use nslab::{NAMESPACES, NamespaceSet, Propagation, fuzz};

fuzz_target!(|input: (u32, u32, String)| {
    let (bits, other, word) = input;
    let known: u32 = NAMESPACES.iter().map(|row| row.flag).sum();
    assert_eq!(NamespaceSet::from_bits(bits).is_some(), bits & !known == 0);
    let [set, other] = [bits, other].map(|bits| NamespaceSet::from_bits(bits & known).expect("only known bits"));
    assert_eq!(set.without(other).union(set).bits(), set.bits());
    assert_eq!(set.intersects(other), set.bits() & other.bits() != 0);
    assert_eq!(set.rows().map(|(_, row)| row.flag).sum::<u32>(), set.bits());
    let names = set.names(" ");
    let named: u32 =
        NAMESPACES.iter().filter(|row| names.split(' ').any(|name| name == row.name)).map(|row| row.flag).sum();
    assert_eq!(named, set.bits());
    let shown = set.to_string();
    assert!(set.is_empty() && shown == "0" || shown.split('|').count() == set.rows().count());
    if let Ok(propagation) = Propagation::from_str(&word) {
        assert_eq!(propagation.name(), word);
    }
    assert!(fuzz::link_flags(bits).iter().all(|word| !word.is_empty()));
});
