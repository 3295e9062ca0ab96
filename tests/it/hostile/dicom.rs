//! DICOM files that lie, nest, repeat and never end.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::Hostile;
use super::codestreams;

pub(super) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(super) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(super) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
pub(super) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(super) const DEFLATED_FRAME: &str = "1.2.840.10008.1.2.8.1";
pub(super) const JPEG: &str = "1.2.840.10008.1.2.4.50";
pub(super) const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
pub(super) const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
pub(super) const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
pub(super) const RLE: &str = "1.2.840.10008.1.2.5";
const CR: &str = "1.2.840.10008.5.1.4.1.1.1";

const UNDEFINED: u32 = u32::MAX;
const PIXELS: Tag = (0x7fe0, 0x0010);
const REFERENCES: Tag = (0x0008, 0x1140);
const VOI_LUT: Tag = (0x0028, 0x3010);
const PRIVATE: Tag = (0x0009, 0x1010);

type Tag = (u16, u16);

/// A file in the making, byte by byte: nothing in it is checked.
#[derive(Clone)]
pub(super) struct Dicom {
    syntax: String,
    /// As written, in the order of tags.
    elements: BTreeMap<Tag, Vec<u8>>,
    class: Option<&'static str>,
}

impl Dicom {
    /// Six rows of eight words, which can be read.
    pub(super) fn new(syntax: &str) -> Self {
        let words = (0..48u16).flat_map(|at| {
            let word = at * 83 % 4096;
            if syntax == BIG_ENDIAN { word.to_be_bytes() } else { word.to_le_bytes() }
        });
        let words: Vec<u8> = words.collect();
        Self { syntax: syntax.into(), elements: BTreeMap::new(), class: Some(CR) }
            .text((0x0008, 0x0016), "UI", CR)
            .text((0x0008, 0x0060), "CS", "CR")
            .text((0x0010, 0x0020), "LO", "CANARY-77")
            .word((0x0028, 0x0002), 1)
            .text((0x0028, 0x0004), "CS", "MONOCHROME2")
            .word((0x0028, 0x0010), 6)
            .word((0x0028, 0x0011), 8)
            .word((0x0028, 0x0100), 16)
            .word((0x0028, 0x0101), 12)
            .word((0x0028, 0x0102), 11)
            .word((0x0028, 0x0103), 0)
            .value(PIXELS, "OW", &words)
    }

    /// An image of `size` of 8 or 16 bits, whose pixel data is these fragments.
    pub(super) fn encapsulated(
        syntax: &str,
        [rows, columns]: [u16; 2],
        bits: u16,
        fragments: &[&[u8]],
    ) -> Self {
        let file = Self::new(syntax)
            .word((0x0028, 0x0010), rows)
            .word((0x0028, 0x0011), columns)
            .word((0x0028, 0x0100), if bits > 8 { 16 } else { 8 })
            .word((0x0028, 0x0101), bits)
            .word((0x0028, 0x0102), bits - 1);
        let mut raw = file.header(PIXELS, "OB", UNDEFINED);
        raw.extend(file.item(0));
        for fragment in fragments {
            raw.extend(file.item(fragment.len() as u32));
            raw.extend(*fragment);
        }
        raw.extend(file.sequence_end());
        file.raw(PIXELS, raw)
    }

    fn u16(&self, value: u16) -> [u8; 2] {
        if self.syntax == BIG_ENDIAN { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        if self.syntax == BIG_ENDIAN { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// The start of an element that claims to have `length` bytes.
    pub(super) fn header(&self, (group, element): Tag, vr: &str, length: u32) -> Vec<u8> {
        let mut raw = [self.u16(group), self.u16(element)].concat();
        if self.syntax == IMPLICIT {
            raw.extend(self.u32(length));
        } else if ["OB", "OW", "SQ", "UN", "UT", "OF", "UC", "UR", "OV"].contains(&vr) {
            raw.extend(vr.as_bytes());
            raw.extend([0, 0]);
            raw.extend(self.u32(length));
        } else {
            raw.extend(vr.as_bytes());
            raw.extend(self.u16(length as u16));
        }
        raw
    }

    fn delimiter(&self, element: u16, length: u32) -> Vec<u8> {
        let mut raw = [self.u16(0xfffe), self.u16(element)].concat();
        raw.extend(self.u32(length));
        raw
    }

    fn item(&self, length: u32) -> Vec<u8> {
        self.delimiter(0xe000, length)
    }

    fn item_end(&self) -> Vec<u8> {
        self.delimiter(0xe00d, 0)
    }

    fn sequence_end(&self) -> Vec<u8> {
        self.delimiter(0xe0dd, 0)
    }

    /// `raw` in the place of the element `tag`.
    pub(super) fn raw(mut self, tag: Tag, raw: Vec<u8>) -> Self {
        self.elements.insert(tag, raw);
        self
    }

    pub(super) fn value(self, tag: Tag, vr: &str, value: &[u8]) -> Self {
        let mut raw = self.header(tag, vr, value.len() as u32);
        raw.extend(value);
        self.raw(tag, raw)
    }

    pub(super) fn text(self, tag: Tag, vr: &str, text: &str) -> Self {
        let padding = if vr == "UI" { "\0" } else { " " };
        let text = if text.len() % 2 == 1 { format!("{text}{padding}") } else { text.to_owned() };
        self.value(tag, vr, text.as_bytes())
    }

    pub(super) fn word(self, tag: Tag, value: u16) -> Self {
        let value = self.u16(value);
        self.value(tag, "US", &value)
    }

    fn without(mut self, tag: Tag) -> Self {
        self.elements.remove(&tag);
        self
    }

    pub(super) fn data_set(&self) -> Vec<u8> {
        self.elements.values().flatten().copied().collect()
    }

    fn meta(&self) -> Vec<u8> {
        let explicit = Self { syntax: EXPLICIT.into(), elements: BTreeMap::new(), class: None };
        let mut meta = explicit.text((2, 0x10), "UI", &self.syntax);
        if let Some(class) = self.class {
            meta = meta.text((2, 2), "UI", class);
        }
        [&[0; 128][..], b"DICM", &meta.data_set()].concat()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let data_set = self.data_set();
        let data_set = if self.syntax == DEFLATED { deflated(&data_set) } else { data_set };
        [self.meta(), data_set].concat()
    }
}

/// Raw deflate, as DICOM has it.
pub(super) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `megabytes` of zeros, deflated.
fn bomb(megabytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap()
}

pub(super) fn all() -> Vec<Hostile> {
    let mut all = Vec::new();
    for (name, syntax) in [
        ("explicit", EXPLICIT),
        ("implicit", IMPLICIT),
        ("big-endian", BIG_ENDIAN),
        ("deflated", DEFLATED),
    ] {
        let mut put =
            |kind: &str, file: Vec<u8>| all.push(Hostile::new(format!("{kind}-{name}.dcm"), file));
        sequences(syntax, &mut put);
        lengths(syntax, &mut put);
    }
    let mut put = |name: &str, file: Vec<u8>| all.push(Hostile::new(format!("{name}.dcm"), file));
    containers(&mut put);
    values(&mut put);
    texts(&mut put);
    encapsulation(&mut put);
    all
}

/// Sequences in every form that none should have.
fn sequences(syntax: &str, put: &mut impl FnMut(&str, Vec<u8>)) {
    let base = Dicom::new(syntax);
    let open = [base.header(REFERENCES, "SQ", UNDEFINED), base.item(UNDEFINED)].concat();
    let close = [base.item_end(), base.sequence_end()].concat();
    let with = |tag, raw: Vec<u8>| base.clone().raw(tag, raw).bytes();
    for depth in [33, 1_000, 20_000] {
        put(
            &format!("nested-{depth}"),
            with(REFERENCES, [open.repeat(depth), close.repeat(depth)].concat()),
        );
    }
    // Lengths from the inside out.
    let mut nested = Vec::new();
    for _ in 0..500 {
        let item = [base.item(nested.len() as u32), nested].concat();
        nested = [base.header(REFERENCES, "SQ", item.len() as u32), item].concat();
    }
    put("nested-lengths", with(REFERENCES, nested));
    let voi = [base.header(VOI_LUT, "SQ", UNDEFINED), base.item(UNDEFINED)].concat();
    put("nested-tables", with(VOI_LUT, [voi.repeat(40), close.repeat(40)].concat()));
    put("never-closed", with(REFERENCES, open.repeat(3)));
    put("item-never-closed", with(REFERENCES, [open.clone(), base.sequence_end()].concat()));
    put("closed-twice", with(REFERENCES, [open.clone(), close.clone(), close.clone()].concat()));
    put("item-outside", with(REFERENCES, [base.item(UNDEFINED), base.item_end()].concat()));
    put("only-ends", with(REFERENCES, base.sequence_end().repeat(50_000)));
    let head = base.header(REFERENCES, "SQ", UNDEFINED);
    put("no-item", with(REFERENCES, [head.clone(), base.header((8, 0x60), "CS", 0)].concat()));
    put("item-beyond-file", with(REFERENCES, [head.clone(), base.item(0x7fff_fff0)].concat()));
    put(
        "item-odd",
        with(REFERENCES, [head.clone(), base.item(3), vec![0; 3], base.sequence_end()].concat()),
    );
    put(
        "items-without-end",
        with(REFERENCES, [head.clone(), base.item(0).repeat(90_000)].concat()),
    );
    put(
        "items-too-many",
        with(REFERENCES, [head, base.item(0).repeat(200_000), base.sequence_end()].concat()),
    );
    put("sequence-beyond-file", with(REFERENCES, base.header(REFERENCES, "SQ", 0xffff_fff0)));
    let short = [base.header(REFERENCES, "SQ", 8), base.item(400), vec![0; 400]].concat();
    put("item-beyond-sequence", with(REFERENCES, short));
    let unknown = [base.header(PRIVATE, "UN", UNDEFINED), base.item(UNDEFINED)].concat();
    put("unknown-nested", with(PRIVATE, [unknown.repeat(400), close.repeat(400)].concat()));
    put("unknown-open", with(PRIVATE, unknown));
    put(
        "pixels-in-item",
        with(
            REFERENCES,
            [open, base.header(PIXELS, "OB", UNDEFINED), base.item(UNDEFINED)].concat(),
        ),
    );
}

/// Lengths that are not so.
fn lengths(syntax: &str, put: &mut impl FnMut(&str, Vec<u8>)) {
    let base = Dicom::new(syntax);
    let with = |tag, raw: Vec<u8>| base.clone().raw(tag, raw).bytes();
    put("length-all-ones", with((8, 0x60), base.header((8, 0x60), "UN", 0xffff_fffe)));
    put("undefined-word", with((0x28, 0x10), base.header((0x28, 0x10), "UN", UNDEFINED)));
    put("rows-empty", with((0x28, 0x10), base.header((0x28, 0x10), "US", 0)));
    put("rows-odd", with((0x28, 0x10), [base.header((0x28, 0x10), "US", 1), vec![6]].concat()));
    put("rows-many", base.clone().value((0x28, 0x10), "US", &[1; 600]).bytes());
    put("id-long", base.clone().value((0x10, 0x20), "UT", &vec![b'9'; 1 << 20]).bytes());
    put("private-long", base.clone().value(PRIVATE, "OB", &vec![0; 1 << 20]).bytes());
    put("pixels-short", base.clone().value(PIXELS, "OW", &[0; 94]).bytes());
    put("pixels-beyond-file", with(PIXELS, base.header(PIXELS, "OW", 0xffff_fff0)));
    put("pixels-empty", base.clone().value(PIXELS, "OW", &[]).bytes());
    put("pixels-none", base.clone().without(PIXELS).bytes());
    let empty: Vec<u8> = (0..150_000u32)
        .flat_map(|at| base.header((0x0009 + 2 * (at >> 16) as u16, at as u16), "LO", 0))
        .collect();
    put("elements-too-many", with(PRIVATE, empty));
    put("elements-alike", with(PRIVATE, base.header((8, 0x60), "CS", 0).repeat(90_000)));
    let mut cut = base.bytes();
    cut.truncate(cut.len() - 60);
    put("cut", cut);
}

/// Preambles, meta groups and what is not what they say.
fn containers(put: &mut impl FnMut(&str, Vec<u8>)) {
    let whole = Dicom::new(EXPLICIT).bytes();
    let meta = |values: &[u8]| [&[0; 128][..], b"DICM", values].concat();
    put("meta-only", Dicom::new(EXPLICIT).meta());
    put("magic-only", b"DICM".to_vec());
    put("preamble-only", meta(b""));
    put("meta-cut", whole[..150].to_vec());
    put("meta-long", meta(b"\x02\0\x10\0UI\xff\xff1.2.840"));
    put("meta-endless", meta(b"\x02\0\x01\0OB\0\0\xff\xff\xff\xff"));
    put("meta-repeated", meta(&b"\x02\0\x10\0UI\x02\x001.".repeat(200_000)));
    put("meta-twice", [Dicom::new(EXPLICIT).meta(), whole.clone()].concat());
    put("no-preamble", whole[132..].to_vec());
    put("nothing-but-syntax", meta(b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0"));
    for (name, uid) in [
        ("syntax-empty", ""),
        ("syntax-text", "DOE^JANE"),
        ("syntax-long", &*"1.2.840".repeat(200)),
        ("syntax-mpeg", "1.2.840.10008.1.2.4.100"),
        ("syntax-htj2k", "1.2.840.10008.1.2.4.201"),
        ("syntax-jpip", "1.2.840.10008.1.2.4.94"),
        ("syntax-xl", "1.2.840.10008.1.2.4.110"),
        ("syntax-escape", "1.2\u{1b}[2J"),
    ] {
        put(name, Dicom::new(uid).bytes());
    }
    for (name, said, written) in [
        ("implicit-said-explicit", EXPLICIT, IMPLICIT),
        ("explicit-said-implicit", IMPLICIT, EXPLICIT),
        ("little-said-big", BIG_ENDIAN, EXPLICIT),
        ("big-said-little", EXPLICIT, BIG_ENDIAN),
        ("plain-said-deflated", DEFLATED, EXPLICIT),
    ] {
        let head = Dicom { elements: BTreeMap::new(), ..Dicom::new(said) }.meta();
        put(name, [head, Dicom::new(written).data_set()].concat());
    }
    let head = Dicom::new(DEFLATED).meta();
    put("deflate-bomb", [head.clone(), bomb(400)].concat());
    let inside = Dicom::new(EXPLICIT);
    let long = inside.clone().value(PRIVATE, "OB", &vec![0; 200 << 20]).data_set();
    put("deflate-large", [head.clone(), deflated(&long)].concat());
    let stream = deflated(&inside.data_set());
    put("deflate-cut", [head.clone(), stream[..stream.len() / 2].to_vec()].concat());
    put("deflate-garbage", [head.clone(), vec![0xa5; 4096]].concat());
    put("deflate-twice", [head.clone(), deflated(&stream)].concat());
    put("deflate-empty", head);
    for (name, class) in [
        ("class-ct", "1.2.840.10008.5.1.4.1.1.2"),
        ("class-report", "1.2.840.10008.5.1.4.1.1.88.11"),
        ("class-pdf", "1.2.840.10008.5.1.4.1.1.104.1"),
        ("class-text", "DOE^JANE"),
    ] {
        put(name, Dicom::new(EXPLICIT).text((8, 0x16), "UI", class).bytes());
    }
    let nameless = Dicom { class: None, ..Dicom::new(EXPLICIT) };
    put("class-none", nameless.without((8, 0x16)).bytes());
}

/// Attributes that cannot be so, alone or together.
fn values(put: &mut impl FnMut(&str, Vec<u8>)) {
    let base = || Dicom::new(EXPLICIT);
    for (name, element, value) in [
        ("rows-none", 0x10, 0),
        ("rows-all", 0x10, 65_535),
        ("columns-none", 0x11, 0),
        ("columns-all", 0x11, 65_535),
        ("samples-none", 0x02, 0),
        ("samples-many", 0x02, 65_535),
        ("allocated-none", 0x100, 0),
        ("allocated-7", 0x100, 7),
        ("allocated-64", 0x100, 64),
        ("stored-none", 0x101, 0),
        ("stored-40", 0x101, 40),
        ("high-bit-0", 0x102, 0),
        ("high-bit-200", 0x102, 200),
        ("representation-2", 0x103, 2),
        ("planar-9", 0x06, 9),
    ] {
        put(name, base().word((0x28, element), value).bytes());
    }
    let huge = base().word((0x28, 0x10), 65_535).word((0x28, 0x11), 65_535);
    put("size-all", huge.clone().bytes());
    put("size-frames", huge.text((0x28, 0x08), "IS", "2147483647").bytes());
    for (name, frames) in [
        ("frames-none", "0"),
        ("frames-negative", "-3"),
        ("frames-many", "2147483647"),
        ("frames-text", "many"),
    ] {
        put(name, base().text((0x28, 0x08), "IS", frames).bytes());
    }
    for (name, text) in [
        ("nan", "nan"),
        ("infinite", "inf"),
        ("overflow", "1e400"),
        ("tiny", "1e-320"),
        ("zero", "0"),
        ("negative", "-5"),
        ("list", "1\\2\\3\\4\\5"),
        ("hex", "0x10"),
        ("empty", ""),
    ] {
        put(
            &format!("window-width-{name}"),
            base().text((0x28, 0x1050), "DS", "100").text((0x28, 0x1051), "DS", text).bytes(),
        );
        put(
            &format!("window-center-{name}"),
            base().text((0x28, 0x1050), "DS", text).text((0x28, 0x1051), "DS", "100").bytes(),
        );
        put(
            &format!("slope-{name}"),
            base().text((0x28, 0x1052), "DS", "0").text((0x28, 0x1053), "DS", text).bytes(),
        );
        put(
            &format!("intercept-{name}"),
            base().text((0x28, 0x1052), "DS", text).text((0x28, 0x1053), "DS", "1").bytes(),
        );
    }
    for (name, spacing) in [
        ("zero", "0\\0"),
        ("apart", "1e30\\1e-30"),
        ("thin", "1000\\0.001"),
        ("negative", "-1\\1"),
        ("nan", "nan\\nan"),
        ("one", "0.2"),
    ] {
        put(&format!("spacing-{name}"), base().text((0x18, 0x1164), "DS", spacing).bytes());
    }
    put("aspect-apart", base().text((0x28, 0x34), "IS", "2147483647\\1").bytes());
    for (name, descriptor, entries) in [
        ("none", [0u16, 0, 16], 0usize),
        ("short", [4096, 0, 16], 10),
        ("bits-0", [16, 0, 0], 16),
        ("bits-17", [16, 0, 17], 16),
        ("first-high", [16, 65_535, 12], 16),
        ("odd", [3, 0, 8], 3),
    ] {
        for (kind, sequence) in [("voi", VOI_LUT), ("modality", (0x28, 0x3000))] {
            let file = base();
            let descriptor: Vec<u8> =
                descriptor.iter().flat_map(|word| word.to_le_bytes()).collect();
            let table = [
                file.header(sequence, "SQ", UNDEFINED),
                file.item(UNDEFINED),
                file.header((0x28, 0x3002), "US", 6),
                descriptor,
                file.header((0x28, 0x3006), "OW", 2 * entries as u32),
                vec![1; 2 * entries],
                file.item_end(),
                file.sequence_end(),
            ];
            put(&format!("table-{kind}-{name}"), file.raw(sequence, table.concat()).bytes());
        }
    }
    let file = base();
    let long = [
        file.header(VOI_LUT, "SQ", UNDEFINED),
        file.item(UNDEFINED),
        file.header((0x28, 0x3006), "OW", 4 << 20),
    ];
    put("table-huge", file.raw(VOI_LUT, [long.concat(), vec![0; 4 << 20]].concat()).bytes());
}

/// Character sets, escapes and names.
fn texts(put: &mut impl FnMut(&str, Vec<u8>)) {
    let base = || Dicom::new(EXPLICIT);
    for (name, set) in [
        ("japanese", "\\ISO 2022 IR 87"),
        ("korean", "\\ISO 2022 IR 149"),
        ("chinese", "GB18030"),
        ("unknown", "ISO_IR 99999"),
        ("many", &*"ISO 2022 IR 87\\".repeat(60)),
    ] {
        let file = base().text((8, 5), "CS", set).value(
            (0x10, 0x10),
            "PN",
            b"CANARY\x1b$B;3ED\x1b(J^\xff\xfe ",
        );
        put(&format!("charset-{name}"), file.bytes());
    }
    put("id-escape", base().value((0x10, 0x20), "LO", b"\x1b[31mCANARY\x07\x1b]0;x\x07 ").bytes());
    put("id-not-utf8", base().value((0x10, 0x20), "LO", b"\xff\xfe\x80CANARY").bytes());
    put("id-zeros", base().value((0x10, 0x20), "LO", &[0; 64]).bytes());
    put("id-lines", base().value((0x10, 0x20), "LO", b"a\nerror: all is lost\r").bytes());
    put("photometric-name", base().text((0x28, 4), "CS", "DOE JANE").bytes());
    put("photometric-none", base().text((0x28, 4), "CS", "").bytes());
    put(
        "modality-name",
        base().text((8, 0x60), "CS", "DOE JANE").text((0x28, 4), "CS", "RGB").bytes(),
    );
    put("burned-in", base().text((0x28, 0x301), "CS", "YES").bytes());
}

/// Compressed frames and what holds them.
fn encapsulation(put: &mut impl FnMut(&str, Vec<u8>)) {
    let small =
        |syntax: &str, bits, frame: &[u8]| Dicom::encapsulated(syntax, [6, 8], bits, &[frame]);
    put("native-said-rle", Dicom { syntax: RLE.into(), ..Dicom::new(EXPLICIT) }.bytes());
    put("fragments-said-native", small(EXPLICIT, 8, &[0; 48]).bytes());
    put("fragments-none", Dicom::encapsulated(RLE, [6, 8], 8, &[]).bytes());
    put("fragments-empty", Dicom::encapsulated(RLE, [6, 8], 8, &[b"", b"", b""]).bytes());
    put("fragments-many", Dicom::encapsulated(JPEG, [6, 8], 8, &vec![&b""[..]; 150_000]).bytes());
    put(
        "fragments-frames",
        Dicom::encapsulated(JPEG, [6, 8], 8, &[&b"\xff\xd8"[..]; 5])
            .text((0x28, 8), "IS", "3")
            .bytes(),
    );
    let file = Dicom::new(RLE);
    let open = |rest: Vec<u8>| {
        let raw = [file.header(PIXELS, "OB", UNDEFINED), file.item(0), rest].concat();
        Dicom::new(RLE).raw(PIXELS, raw).bytes()
    };
    put("fragment-undefined", open(file.item(UNDEFINED)));
    put("fragment-beyond-file", open(file.item(0x7000_0000)));
    put("fragment-other", open(file.item_end()));
    put("fragments-no-end", open([file.item(4), vec![0; 4]].concat()));
    let tabled = |table: &[u8]| {
        let raw =
            [file.header(PIXELS, "OB", UNDEFINED), file.item(table.len() as u32), table.to_vec()];
        Dicom::new(RLE).text((0x28, 8), "IS", "2").raw(PIXELS, raw.concat()).bytes()
    };
    put("offsets-high", tabled(&[0xff; 8]));
    put("offsets-odd", tabled(&[0; 7]));
    put("offsets-many", tabled(&vec![0; 40_000]));
    put(
        "offsets-extended",
        small(JPEG, 8, b"\xff\xd8").value((0x7fe0, 1), "OV", &vec![0xff; 1 << 20]).bytes(),
    );
    put(
        "colour-native",
        Dicom::new(EXPLICIT).word((0x28, 2), 3).text((0x28, 4), "CS", "YBR_FULL_422").bytes(),
    );

    let segments = |header: &[u32], rest: &[u8]| {
        let mut words = header.to_vec();
        words.resize(16, 0);
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain(rest.iter().copied())
            .collect::<Vec<u8>>()
    };
    for (name, frame) in [
        ("rle-empty", Vec::new()),
        ("rle-no-segments", segments(&[0], &[])),
        ("rle-segments-many", segments(&[u32::MAX, 64], &[0; 64])),
        ("rle-offset-high", segments(&[1, u32::MAX], &[0; 64])),
        ("rle-offset-back", segments(&[2, 80, 64], &[0; 64])),
        ("rle-run-beyond", segments(&[1, 64], &[129, 7].repeat(100_000))),
        ("rle-literal-cut", segments(&[1, 64], &[127, 1, 2])),
        ("rle-nothing", segments(&[1, 64], &[128; 5000])),
    ] {
        put(name, small(RLE, 8, &frame).bytes());
    }
    put("frame-deflate-bomb", small(DEFLATED_FRAME, 8, &bomb(400)).bytes());
    put("frame-deflate-garbage", small(DEFLATED_FRAME, 8, &[0xa5; 300]).bytes());
    for (name, syntax, bits, frame) in codestreams::all() {
        put(&name, small(syntax, bits, &frame).bytes());
    }
}
