"""Piano rolls as MIDI and WAV files, read back by parsers that share no code with the writers."""

import io
import wave as standard_wave

import numpy as np
import pytest

from mllab.report import midi, page, wave
from mllab.report.report import Audio, Environment, Provenance, Report, Section
from mllab.report.table import Table
from support.pages import Reader

ROLL = np.zeros((6, 88), int)
ROLL[0:3, 39] = ROLL[2:4, 43] = ROLL[5, 39] = ROLL[1, 0] = ROLL[4:6, 87] = 1


def parsed(content):
    """Return (division, tempo, program, {(key, on tick, off tick)}, ticks in all) of a MIDI file of format 0."""
    assert content[:8] == b"MThd\0\0\0\6"
    kind, tracks, division = (int.from_bytes(content[at : at + 2], "big") for at in (8, 10, 12))
    assert (kind, tracks, content[14:18]) == (0, 1, b"MTrk")
    track = content[22:]
    assert len(track) == int.from_bytes(content[18:22], "big")
    at, now, held, notes, tempo, program = 0, 0, {}, set(), None, None
    while at < len(track):
        delta = 0
        while True:
            delta, byte, at = delta << 7 | track[at] & 127, track[at], at + 1
            if byte < 128:
                break
        now += delta
        status = track[at]
        if status == 0xFF:
            name, size = track[at + 1], track[at + 2]
            if name == 0x51:
                tempo = int.from_bytes(track[at + 3 : at + 3 + size], "big")
            at += 3 + size
            if name == 0x2F:
                assert at == len(track)
        elif status == 0xC0:
            program, at = track[at + 1], at + 2
        else:
            key, velocity, at = track[at + 1], track[at + 2], at + 3
            if status == 0x90 and velocity:
                assert key not in held
                held[key] = now
            else:
                assert status == 0x80
                notes.add((key, held.pop(key), now))
    assert not held
    return division, tempo, program, notes, now


def test_a_midi_file_holds_each_note_once_with_its_times():
    division, tempo, program, notes, end = parsed(midi.encode(ROLL, frame_seconds=0.6, program=19))
    assert (tempo, program, end) == (600_000, 19, 6 * division)
    expected = {(60, 0, 3), (64, 2, 4), (60, 5, 6), (21, 1, 2), (108, 4, 6)}
    assert notes == {(key, start * division, stop * division) for key, start, stop in expected}
    assert parsed(midi.encode(np.zeros((300, 88)), frame_seconds=1))[3:] == (set(), 300 * division)
    assert min(parsed(midi.encode(ROLL, frame_seconds=1, lowest=9))[3])[0] == 9


def test_the_sound_has_the_pitch_and_the_length_of_the_roll():
    roll = np.zeros((4, 88), int)
    roll[:, 48] = 1  # A4
    with standard_wave.open(io.BytesIO(wave.encode(wave.samples(roll, frame_seconds=0.5)))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, wave.RATE)
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert len(sound) / wave.RATE == pytest.approx(2, abs=0.2)
    assert np.abs(sound).max() == pytest.approx(wave.PEAK * 32767, abs=2)
    spectrum = np.abs(np.fft.rfft(sound))
    assert spectrum.argmax() / len(sound) * wave.RATE == pytest.approx(440, abs=1)
    assert not wave.samples(np.zeros((3, 88)), frame_seconds=0.5).any()


def test_a_page_plays_a_sound_without_a_script_or_the_network():
    machine = Environment({}, {"count": 1, "kind": "cpu", "platform": "cpu"}, "", "", "", None, {})
    sound = Audio(b"RIFF<&>", 'a "sound"', "plays")
    made = Report("t", "q", "a", Table(["x"], [["1"]]), [Section("Sound", [sound])])
    elements = Reader(page.render(made, {}, Provenance("c", machine, {}))).elements
    (player,) = [each for tag, each in elements if tag == "audio"]
    assert player == {"controls": None, "aria-label": 'a "sound"', "src": "data:audio/wav;base64,UklGRjwmPg=="}
