use super::*;

const EXPLICIT: Encoding = Encoding { is_implicit: false, is_big_endian: false };
const OPENING: &[u8] =
    b"\x08\x00\x11\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
const ROWS: &[u8] = b"\x28\x00\x10\x00US\x02\x00\x01\x00";

fn check(data_set: &[u8], encoding: Encoding) -> Result<(), Refusal> {
    read(data_set, encoding).map(|_| ())
}

#[test]
fn a_length_beyond_the_end_is_refused() {
    assert_eq!(check(ROWS, EXPLICIT), Ok(()));
    let long = b"\x28\x00\x10\x00OB\x00\x00\xf0\xff\xff\xff\x01\x00";
    assert!(check(long, EXPLICIT).is_err());
    // A representation that nobody knows has a long length.
    assert!(check(b"\x28\x00\x10\x00Us\x02\x00\xf0\xff\xff\xff\x01\x00", EXPLICIT).is_err());
    let pixels = b"\xe0\x7f\x10\x00OW\x00\x00\x04\x00\x00\x00\x01\x00";
    assert_eq!(check(pixels, EXPLICIT), Err(Refusal::Truncated { found: 2, needed: 4 }));
    let implicit = Encoding { is_implicit: true, is_big_endian: true };
    assert!(check(b"\x00\x28\x00\x10\x00\x00\x00\x03\x01\x00", implicit).is_err());
    assert_eq!(check(b"\x00\x28\x00\x10\x00\x00\x00\x02\x01\x00", implicit), Ok(()));
}

#[test]
fn endless_nesting_is_refused() {
    let closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0";
    let nested = |depth: usize| [OPENING.repeat(depth), closing.repeat(depth)].concat();
    assert_eq!(check(&nested(MAX_DEPTH), EXPLICIT), Ok(()));
    assert!(check(&nested(MAX_DEPTH + 1), EXPLICIT).is_err());
    assert!(check(&OPENING.repeat(100_000), EXPLICIT).is_err());
}

/// The delimiter of no item once ended the walk, and what followed reached the parser unseen.
#[test]
fn nothing_hides_behind_a_stray_delimiter() {
    for stray in
        [&b"\xfe\xff\0\xe0\0\0\0\0"[..], b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"]
    {
        let hidden = [ROWS, stray, &OPENING.repeat(100_000)].concat();
        assert_eq!(
            check(&hidden, EXPLICIT),
            Err(Refusal::Damaged("sequences are nested too deeply"))
        );
        let behind = read(&[stray, ROWS].concat(), EXPLICIT).unwrap();
        assert_eq!(behind.elements, ROWS);
        let inside =
            [b"\x28\x00\x00\x30SQ\0\0\x1a\0\0\0\xfe\xff\0\xe0\x12\0\0\0", stray, ROWS].concat();
        assert!(check(&inside, EXPLICIT).is_err());
    }
}

#[test]
fn elements_and_items_are_counted() {
    let private = b"\x09\x00\x01\x00US\x02\x00\x01\x00";
    assert_eq!(check(&private.repeat(MAX_ELEMENTS), EXPLICIT), Ok(()));
    assert_eq!(check(&private.repeat(MAX_ELEMENTS + 1), EXPLICIT), Err(Refusal::TooManyElements));
    let items = [
        b"\x09\x00\x01\x00SQ\0\0\xff\xff\xff\xff",
        &b"\xfe\xff\0\xe0\0\0\0\0".repeat(MAX_ELEMENTS)[..],
    ]
    .concat();
    assert_eq!(check(&items, EXPLICIT), Err(Refusal::TooManyElements));
}

/// A parser makes a string of every `1\` of a text.
#[test]
fn attributes_are_no_longer_than_they_can_be() {
    let text = |length: u32| {
        let head = b"\x28\x00\x50\x10UC\0\0";
        [&head[..], &length.to_le_bytes(), &b"1\\".repeat(length as usize / 2)].concat()
    };
    assert_eq!(check(&text(1_000), EXPLICIT), Ok(()));
    assert!(check(&text(1_100), EXPLICIT).is_err());
    let table = b"\x28\x00\x06\x30OW\0\0\0\0\x0c\0";
    let item = [
        &b"\xfe\xff\0\xe0\xff\xff\xff\xff"[..],
        table,
        &vec![0; 0xc_0000],
        b"\xfe\xff\x0d\xe0\0\0\0\0",
    ]
    .concat();
    let sequence =
        |tag: &[u8]| [tag, b"SQ\0\0\xff\xff\xff\xff", &item, b"\xfe\xff\xdd\xe0\0\0\0\0"].concat();
    let tags: [&[u8]; 6] = [
        b"\x28\0\x00\x30",
        b"\x28\0\x10\x30",
        b"\0\x52\x29\x92",
        b"\0\x52\x30\x92",
        b"\x28\0\x32\x91",
        b"\x28\0\x10\x91",
    ];
    let tables =
        |count: usize| tags[..count].iter().flat_map(|tag| sequence(tag)).collect::<Vec<u8>>();
    assert_eq!(check(&tables(5), EXPLICIT), Ok(()));
    assert!(check(&tables(6), EXPLICIT).is_err(), "more than 4 MiB in all");
}

#[test]
fn only_wanted_elements_are_handed_on() {
    let name = b"\x10\x00\x10\x00PN\x04\x00DOE^";
    let found = read(&[&name[..], ROWS, name, ROWS].concat(), EXPLICIT).unwrap();
    assert_eq!(found.elements, ROWS, "once, and nobody's name");
    let table = |item: &[u8]| {
        [
            b"\x28\x00\x00\x30SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff",
            item,
            b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
        ]
        .concat()
    };
    let descriptor = b"\x28\x00\x02\x30US\x06\x00\x01\0\0\0\x08\0";
    let found = read(&table(&[&name[..], descriptor].concat()), EXPLICIT).unwrap();
    assert_eq!(found.elements, table(descriptor));
}

#[test]
fn pixel_data_is_found_where_it_lies() {
    let fragments = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\x02\0\0\0ab\xfe\xff\xdd\xe0\0\0\0\0";
    let found = read(&[ROWS, fragments].concat(), EXPLICIT).unwrap().pixels.unwrap();
    let fragments_of =
        |fragment| Pixels::Encapsulated { offsets: 30..30, fragments: vec![fragment] };
    assert_eq!(found, fragments_of(38..40));
    let open = read(&[ROWS, &fragments[..fragments.len() - 8]].concat(), EXPLICIT).unwrap();
    assert_eq!(open.pixels.unwrap(), found, "the last delimiter may be missing");
    let words = b"\xe0\x7f\x10\x00OW\0\0\x02\0\0\0ab";
    let found = read(words, EXPLICIT).unwrap().pixels.unwrap();
    assert_eq!(found, Pixels::Native { is_words: true, value: 12..14 });
}

/// PS3.5 6.2.2: whatever the file's byte order.
#[test]
fn an_unknown_value_of_undefined_length_is_implicit_and_little_endian() {
    let big = Encoding { is_implicit: false, is_big_endian: true };
    let inner = b"\x28\x00\x10\x00\x02\x00\x00\x00\x01\x00";
    let unknown = [
        &b"\x00\x09\x10\x10UN\x00\x00\xff\xff\xff\xff"[..],
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
        inner,
        b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
        b"\x00\x28\x00\x10US\x00\x02\x00\x07",
    ]
    .concat();
    let found = read(&unknown, big).unwrap();
    assert_eq!(
        found.elements, b"\x00\x28\x00\x10US\x00\x02\x00\x07",
        "the file's order again behind it"
    );
}

/// A parser that reads whole numbers takes the rest for the next element, and allocates what that seems to say.
#[test]
fn a_length_that_holds_no_whole_numbers_is_refused() {
    let implicit = Encoding { is_implicit: true, is_big_endian: false };
    for (element, encoding) in [
        (&b"\x28\x00\x10\x00US\x01\x00\x06"[..], EXPLICIT),
        (b"\x28\x00\x10\x00\x01\x00\x00\x00\x06", implicit),
        (b"\x28\x00\x10\x00UL\x06\x00\x06\0\0\0\0\0", EXPLICIT),
        (b"\x28\x00\x10\x00FD\x04\x00\x06\0\0\0", EXPLICIT),
    ] {
        let refused = check(element, encoding).unwrap_err().to_string();
        assert!(refused.contains("no multiple"), "{refused}");
    }
    // Texts of odd lengths are common.
    assert_eq!(check(b"\x10\x00\x20\x00LO\x01\x00A", EXPLICIT), Ok(()));
}
