//! Id maps: whatever is asked for, what comes out is what the kernel takes, and reads back the same.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use nslab::{IdRange, MapRequest, fuzz};

#[derive(Debug, Arbitrary)]
enum Request {
    Ranges(Vec<[u32; 3]>),
    Auto,
    Subids,
    All,
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    request: Option<Request>,
    single: Option<[u32; 2]>,
    subordinate: Option<(u32, u32)>,
    own: Vec<(u32, u32)>,
    text: &'a [u8],
    map: Vec<[u32; 3]>,
    id: u32,
}

fn range([inside, outside, count]: [u32; 3]) -> IdRange {
    IdRange { inside, outside, count }
}

fuzz_target!(|input: Input<'_>| {
    let request = input.request.map(|request| match request {
        Request::Ranges(ranges) => MapRequest::Ranges(ranges.into_iter().map(range).collect()),
        Request::Auto => MapRequest::Auto,
        Request::Subids => MapRequest::Subids,
        Request::All => MapRequest::All,
    });
    let single = input.single.map(|[inside, outside]| range([inside, outside, 1]));
    let available = fuzz::Available { subordinate: input.subordinate, own: input.own };
    match fuzz::resolve("map_users", request.as_ref(), single, &available) {
        Ok(ranges) => {
            assert_eq!(ranges.is_empty(), request.is_none() && single.is_none());
            kernel_takes(&ranges);
            let read = fuzz::id_map(fuzz::id_map_text(&ranges).as_bytes()).expect("our own text");
            assert_eq!(read.into_iter().map(range).collect::<Vec<_>>(), ranges);
            assert!(single.is_none_or(|single| ranges[0] == single));
            if let (Some(MapRequest::All | MapRequest::Subids), [_, others @ ..] | others) =
                (&request, if single.is_some() { &ranges[..] } else { &[] })
            {
                assert!(others.iter().all(|range| range.inside == range.outside), "each keeps its number");
            }
        }
        Err(message) => assert!(message.starts_with("map_users")),
    }
    let _ = fuzz::id_map(input.text);
    let _ = fuzz::translate(input.id, &input.map);
});

/// user_namespaces(7), in 64 bits and without shortcuts.
fn kernel_takes(ranges: &[IdRange]) {
    assert!(ranges.len() <= 340);
    let ends = |first: u32, count: u32| (u64::from(first), u64::from(first) + u64::from(count));
    for side in [|range: &IdRange| range.inside, |range: &IdRange| range.outside] {
        let mut sides: Vec<_> = ranges.iter().map(|range| ends(side(range), range.count)).collect();
        sides.sort_unstable();
        assert!(sides.iter().all(|(first, end)| first < end && *end <= u64::from(u32::MAX)));
        assert!(sides.windows(2).all(|pair| pair[0].1 <= pair[1].0), "overlap");
    }
    assert!(fuzz::id_map_text(ranges).len() < 4096);
}
