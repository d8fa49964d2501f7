"""Generated four-part progressions: chords of a major key that follow each other as in a textbook of harmony."""

from collections.abc import Mapping, Sequence

import numpy as np

KEYS = 88
LOWEST = 21  # MIDI number of the first key
PIECES = {"train": 120, "validation": 30, "test": 30}
LENGTHS = (16, 32)  # frames, the greatest left out
SCALE = (0, 2, 4, 5, 7, 9, 11)  # semitones of a major scale
FOLLOWS: Mapping[int, Mapping[int, float]] = {  # probabilities of the degree after a degree, counted from 0
    0: {0: 0.1, 1: 0.15, 3: 0.3, 4: 0.3, 5: 0.15},
    1: {4: 0.8, 6: 0.2},
    3: {0: 0.2, 1: 0.2, 4: 0.6},
    4: {0: 0.7, 4: 0.1, 5: 0.2},
    5: {1: 0.4, 3: 0.4, 4: 0.2},
    6: {0: 1.0},
}
RANGES = ((40, 55), (48, 64), (55, 72), (60, 79))  # MIDI numbers of bass, tenor, alto and soprano


def progressions() -> dict[str, list[np.ndarray]]:
    """Return the pieces of each part, piano rolls uint8 [frames, KEYS], always the same ones."""
    draw = np.random.default_rng(0)
    return {part: [piece(draw) for _ in range(count)] for part, count in PIECES.items()}


def piece(draw: np.random.Generator) -> np.ndarray:
    """Return a progression in a random major key, from the tonic to a cadence, uint8 [frames, KEYS].

    Each chord lasts one or two frames. The bass has the root; each upper voice moves to the nearest note of the chord.
    """
    tonic = int(draw.integers(12))
    length = int(draw.integers(*LENGTHS))
    degrees = [0]
    while len(degrees) < length - 2:
        row = FOLLOWS[degrees[-1]]
        chosen = int(draw.choice(list(row), p=list(row.values())))
        degrees += [chosen] * int(draw.integers(1, 3))
    degrees = [*degrees[: length - 2], 4, 0]
    voices = [47, 55, 62, 69]
    frames = np.zeros((length, KEYS), np.uint8)
    for time, degree in enumerate(degrees):
        if time == 0 or degree != degrees[time - 1]:
            voices = _voiced(tonic, degree, voices)
        frames[time, np.array(voices) - LOWEST] = 1
    return frames


def _voiced(tonic: int, degree: int, before: Sequence[int]) -> list[int]:
    """Return the MIDI numbers of a triad's four voices, ascending, each near the same voice of the chord before."""
    root, third, fifth = ((tonic + SCALE[(degree + step) % 7]) % 12 for step in (0, 2, 4))
    voices: list[int] = []
    for voice, (low, high) in enumerate(RANGES):
        tones = (root,) if voice == 0 else (root, third, fifth)
        floor = max(low, voices[-1] + 1 if voices else low)
        free = [note for note in range(floor, high + 1) if note % 12 in tones]
        voices.append(min(free, key=lambda note: (abs(note - before[voice]), note)))
    return voices
