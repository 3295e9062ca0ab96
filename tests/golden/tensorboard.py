"""Two events as TensorBoard's own writer frames and encodes them: tensorboard.tfevents.

Run: python tensorboard.py           writes tensorboard.tfevents beside this script
     python tensorboard.py FOLDER    prints every scalar that TensorBoard finds in FOLDER

Versions: python 3.11.7, tensorboard 2.21.0, protobuf 7.36.2, numpy 2.4.6. No randomness: the times are fixed.
"""

import io
import pathlib
import sys

# This script has the package's name: the package must not find the script.
sys.path.pop(0)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

if len(sys.argv) == 1:
    out = io.BytesIO()
    writer = RecordWriter(out)
    writer.write(Event(wall_time=1.5, file_version="brain.Event:2").SerializeToString())
    value = Summary.Value(tag="train/loss", simple_value=0.1)
    scalar = Event(wall_time=2.5, step=1_000_000, summary=Summary(value=[value]))
    writer.write(scalar.SerializeToString())
    pathlib.Path(__file__).with_suffix(".tfevents").write_bytes(out.getvalue())
else:
    events = EventAccumulator(sys.argv[1])
    events.Reload()
    for tag in events.Tags()["scalars"]:
        for point in events.Scalars(tag):
            print(tag, point.step, point.value, point.wall_time)
