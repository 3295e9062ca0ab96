//! Counts records and sees quotation marks that are never closed, which a CSV reader takes for a long last field.

use std::io::{self, Read};

/// Passes bytes through and follows their records as csv_core does: fields between commas, quoted ones with `""` for a
/// quotation mark, records between line ends of any kind, empty lines nothing.
#[derive(Debug)]
pub(super) struct Quotes<R> {
    inner: R,
    state: State,
    /// Bytes seen, up to the three of a byte order mark.
    start: Vec<u8>,
    num_records: u64,
    /// The record in which the last quoted field began, the header being record 1.
    last_quote: u64,
    has_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RecordStart,
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

/// A UTF-8 byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<R> Quotes<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            state: State::RecordStart,
            start: Vec::new(),
            num_records: 0,
            last_quote: 0,
            has_ended: false,
        }
    }

    /// The record, counted from 1 for the header, whose quoted field goes on to the end of the file.
    pub(super) fn never_closed(&self) -> Option<u64> {
        (self.has_ended && self.state == State::Quoted).then_some(self.last_quote)
    }

    /// Records so far, the header among them.
    pub(super) fn num_records(&self) -> u64 {
        self.num_records
    }

    fn follow(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.start.len() < BYTE_ORDER_MARK.len() {
                self.start.push(byte);
                if self.start == BYTE_ORDER_MARK {
                    self.state = State::RecordStart;
                    self.num_records = 0;
                    continue;
                }
            }
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.state == State::RecordStart && !matches!(byte, b'\r' | b'\n') {
            self.num_records += 1;
            self.state = State::FieldStart;
        }
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::QuoteInQuoted,
            (State::Quoted, _) | (State::QuoteInQuoted, b'"') => State::Quoted,
            (_, b'\r' | b'\n') => State::RecordStart,
            (_, b',') => State::FieldStart,
            (State::FieldStart, b'"') => {
                self.last_quote = self.num_records;
                State::Quoted
            }
            _ => State::Plain,
        };
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let num_bytes = self.inner.read(buffer)?;
        self.has_ended |= num_bytes == 0 && !buffer.is_empty();
        self.follow(&buffer[..num_bytes]);
        Ok(num_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn read(text: &[u8]) -> (u64, Option<u64>, usize) {
        let mut reader = csv::ReaderBuilder::new();
        reader.has_headers(false).flexible(true);
        let mut reader = reader.from_reader(Quotes::new(text));
        let records = reader.byte_records().map(Result::unwrap).count();
        (reader.get_ref().num_records(), reader.get_ref().never_closed(), records)
    }

    #[test]
    fn an_open_quote_is_found_in_its_record() {
        assert_eq!(read(b"a,b\n1,\"x\n2,y\n3,z\n"), (2, Some(2), 2));
        assert_eq!(read(b"\xef\xbb\xbf\"a\",b\n1,x\n\n2,\"y\"\"\n"), (3, Some(3), 3));
        assert_eq!(read(b"a,b\r\n\"1\r\n\",\"x\"\r\n"), (2, None, 2));
        assert_eq!(
            read(b"a,b\n1,x\"y\n"),
            (2, None, 2),
            "a quote within a plain field opens nothing"
        );
        assert_eq!(read(b"a,b\n1,\"x\"y\n"), (2, None, 2));
        assert_eq!(read(b"a,b\n1,\""), (2, Some(2), 2));
    }

    #[test]
    fn records_are_those_of_the_csv_reader_whatever_the_text() {
        let letters =
            [&b"a"[..], b"\"", b",", b"\n", b"\r", b"\r\n", b"\"\"", b" ", b"\xef\xbb\xbf"];
        let mut draws = Stream::new(3, "test/quotes").at(0);
        for _ in 0..20_000 {
            let length = draws.below(14);
            let text: Vec<u8> = (0..length)
                .flat_map(|_| letters[draws.below(letters.len() as u64) as usize].to_vec())
                .collect();
            let (counted, _, records) = read(&text);
            assert_eq!(counted, records as u64, "{:?}", String::from_utf8_lossy(&text));
        }
    }
}
