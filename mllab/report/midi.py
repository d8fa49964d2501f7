"""Piano rolls as standard MIDI files of format 0: one track, one note for each key that is held.

Source: MIDI Manufacturers Association, Standard MIDI Files 1.0 (RP-001), "The file format".
"""

import struct

import numpy as np

TICKS = 480  # of a quarter note, which is one frame
VELOCITY = 80
LOWEST = 21  # number of the first key of a piano, A0
NOTE_ON, NOTE_OFF, PROGRAM = 0x90, 0x80, 0xC0  # on the first channel
TEMPO, END_OF_TRACK = b"\xff\x51\x03", b"\xff\x2f\x00"


def notes(frames: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (first frame, frame after the last one, key) of each note, by time and key.

    Frames say whether a key sounds, not whether it is struck again: in frames one after another it is one note.

    Args:
        frames: piano roll [T, K] of 0 and 1.
    """
    padded = np.pad(np.asarray(frames).astype(np.int8), ((1, 1), (0, 0)))
    change = np.diff(padded, axis=0)
    keys, starts = np.nonzero(change.T == 1)
    _, ends = np.nonzero(change.T == -1)
    return sorted(zip(starts.tolist(), ends.tolist(), keys.tolist(), strict=True))


def encode(frames: np.ndarray, *, frame_seconds: float, program: int = 0, lowest: int = LOWEST) -> bytes:
    """Return a piano roll as a standard MIDI file.

    Args:
        frames: piano roll [T, K] of 0 and 1.
        frame_seconds: duration of a frame.
        program: instrument, 0 to 127; 0 is the grand piano, 19 the church organ.
        lowest: MIDI number of the first key.
    """
    events = [(time * TICKS, off, key) for start, end, key in notes(frames) for time, off in ((start, 0), (end, 1))]
    track = b"\0" + TEMPO + round(frame_seconds * 1e6).to_bytes(3, "big")
    track += bytes([0, PROGRAM, program])
    now = 0
    for ticks, off, key in sorted(events, key=lambda event: (event[0], -event[1], event[2])):  # ends before starts
        status = NOTE_OFF if off else NOTE_ON
        track += _variable_length(ticks - now) + bytes([status, lowest + key, 0 if off else VELOCITY])
        now = ticks
    track += _variable_length(len(frames) * TICKS - now) + END_OF_TRACK
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS) + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable_length(value: int) -> bytes:
    """Return a number in groups of seven bits, all but the last one with the high bit set."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))
