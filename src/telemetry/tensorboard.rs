//! Scalars as TensorBoard reads them: event files, written by hand.
//!
//! An event file is a TFRecord file (length, its checksum, data, its checksum) of `Event` messages in Protocol
//! Buffers' encoding (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto).

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file being written.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new event file in `folder`. Points at `first_step` and above in older files of the folder are void:
    /// TensorBoard drops them, as a run that went on from a checkpoint makes them again.
    pub fn create(folder: &Path, first_step: u64) -> io::Result<Self> {
        let (path, file) = create_new(folder)?;
        let mut events = Self { path, file };
        events.write(0, &[field(3, Value::Bytes(b"brain.Event:2"))])?;
        // A log of what happens to the program, status START: what makes TensorBoard drop the void points.
        let start = field(1, Value::Integer(1));
        events.write(first_step, &[field(7, Value::Bytes(&start))])?;
        Ok(events)
    }

    /// Adds a point to each named curve, at `step` images.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> io::Result<()> {
        let value = |(tag, value): &(String, f64)| {
            #[allow(clippy::cast_possible_truncation)] // the format has f32 only
            let value = field(2, Value::Float(*value as f32));
            field(1, Value::Bytes(&[field(1, Value::Bytes(tag.as_bytes())), value].concat()))
        };
        let summary: Vec<u8> = values.iter().flat_map(value).collect();
        self.write(step, &[field(5, Value::Bytes(&summary))])
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings what was written to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&mut self, step: u64, what: &[Vec<u8>]) -> io::Result<()> {
        let wall_time = field(1, Value::Double(since_epoch().as_secs_f64()));
        let event = [wall_time, field(2, Value::Integer(step)), what.concat()].concat();
        self.file.write_all(&record(&event))
    }
}

/// `events.out.tfevents.` is what TensorBoard looks for; files are read in the order of their names.
fn create_new(folder: &Path) -> io::Result<(PathBuf, File)> {
    let start = since_epoch().as_micros();
    for number in start.. {
        let (seconds, micros) = (number / 1_000_000, number % 1_000_000);
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.{micros:06}.umbra"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("numbers do not run out")
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// One record of a TFRecord file.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// TFRecord's masking of a checksum, so that the checksum of data with checksums in it keeps its strength.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

enum Value<'a> {
    Integer(u64),
    Double(f64),
    Float(f32),
    Bytes(&'a [u8]),
}

/// A field of a message in Protocol Buffers' encoding.
fn field(number: u64, value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut key = |wire_type: u64| varint(number << 3 | wire_type, &mut out);
    match value {
        Value::Integer(value) => {
            key(0);
            varint(value, &mut out);
        }
        Value::Double(value) => {
            key(1);
            out.extend(value.to_le_bytes());
        }
        Value::Bytes(bytes) => {
            key(2);
            varint(bytes.len() as u64, &mut out);
            out.extend(bytes);
        }
        Value::Float(value) => {
            key(5);
            out.extend(value.to_le_bytes());
        }
    }
    out
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the encoding's own documentation: 150 is 96 01.
    #[test]
    fn numbers_are_encoded_as_documented() {
        assert_eq!(field(1, Value::Integer(150)), [0x08, 0x96, 0x01]);
        assert_eq!(field(2, Value::Bytes(b"testing")), b"\x12\x07testing");
        let mut out = Vec::new();
        varint(u64::MAX, &mut out);
        assert_eq!(out, [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }

    /// Reference: tests/golden/tensorboard.py, which has TensorBoard's own writer make the same events.
    #[test]
    fn a_record_is_what_tensorboard_writes() {
        let version = [field(1, Value::Double(1.5)), field(3, Value::Bytes(b"brain.Event:2"))];
        let scalars = [
            field(1, Value::Double(2.5)),
            field(2, Value::Integer(1_000_000)),
            field(
                5,
                Value::Bytes(&field(
                    1,
                    Value::Bytes(
                        &[field(1, Value::Bytes(b"train/loss")), field(2, Value::Float(0.1))]
                            .concat(),
                    ),
                )),
            ),
        ];
        let golden = include_bytes!("../../tests/golden/tensorboard.tfevents");
        assert_eq!([record(&version.concat()), record(&scalars.concat())].concat(), golden);
    }
}
