//! rtnetlink: datagrams of any bytes, messages of any bytes, and answers as the kernel frames them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nslab::fuzz;

const DONE: u16 = 3;
const ROUTE: u16 = 24;

fuzz_target!(|input: (Vec<&[u8]>, bool, Vec<Vec<u8>>)| {
    let (datagrams, is_list, bodies) = input;
    for message in fuzz::answer(&datagrams, is_list).unwrap_or_default() {
        let _ = fuzz::network(&message);
    }
    let framed: Vec<u8> = bodies.iter().flat_map(|body| frame(ROUTE, body)).chain(frame(DONE, &[0; 4])).collect();
    let answer = fuzz::answer(&[&framed], true).expect("an answer of the kernel");
    assert_eq!(answer, bodies);
    for message in &answer {
        let _ = fuzz::network(message);
    }
});

/// `struct nlmsghdr`, the body, padding to four bytes.
fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("a short message");
    let mut frame = length.to_ne_bytes().to_vec();
    frame.extend(kind.to_ne_bytes());
    frame.extend(2u16.to_ne_bytes());
    frame.extend(1u32.to_ne_bytes());
    frame.extend(0u32.to_ne_bytes());
    frame.extend(body);
    frame.resize(frame.len().next_multiple_of(4), 0);
    frame
}
