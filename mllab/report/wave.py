"""Piano rolls as sound: plucked tones of a few harmonics, as a WAV file that a browser plays without a script.

Source: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0, 1991, "WAVE".
"""

import struct

import numpy as np

from mllab.report import midi

RATE = 8000  # samples a second: all harmonics below lie under half of it, and 20 s take 320 kB
HARMONICS = (1.0, 0.5, 0.25, 0.12)  # amplitudes
ATTACK, RELEASE, DECAY = 0.01, 0.08, 1.5  # seconds; the last one until a held tone has fallen to 1/e
PEAK = 0.9  # of the range


def samples(frames: np.ndarray, *, frame_seconds: float, lowest: int = midi.LOWEST) -> np.ndarray:
    """Return the sound of a piano roll, [N] in -PEAK to PEAK.

    Args:
        frames: piano roll [T, K] of 0 and 1.
        frame_seconds: duration of a frame.
        lowest: MIDI number of the first key; number 69 is A4, 440 Hz.
    """
    sound = np.zeros(round((len(frames) * frame_seconds + RELEASE) * RATE) + 1)
    for start, end, key in midi.notes(frames):
        first = round(start * frame_seconds * RATE)
        held = (end - start) * frame_seconds
        time = np.arange(min(round((held + RELEASE) * RATE), len(sound) - first)) / RATE
        envelope = (
            np.minimum(time / ATTACK, 1) * np.exp(-time / DECAY) * np.clip((held + RELEASE - time) / RELEASE, 0, 1)
        )
        frequency = 440 * 2 ** ((lowest + key - 69) / 12)
        for number, amplitude in enumerate(HARMONICS, start=1):
            if number * frequency < RATE / 2:
                sound[first : first + len(time)] += amplitude * envelope * np.sin(2 * np.pi * number * frequency * time)
    return sound * (PEAK / max(np.abs(sound).max(initial=0.0), 1e-9))


def encode(sound: np.ndarray, rate: int = RATE) -> bytes:
    """Return samples [N] in -1 to 1 as a WAV file of 16 bits, one channel."""
    data = (np.clip(sound, -1, 1) * 32767).round().astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)  # PCM, channels, rate, bytes a second, a sample's, bits
    chunks = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
