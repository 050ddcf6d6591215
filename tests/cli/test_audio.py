"""WAV and raw PCM as numbers: every width, several channels, pipes that know no length."""

import io
import struct
import wave

import numpy as np
import pytest

from vledge.cli.audio import read_wav, wav_of
from vledge.cli.frames import FrameReader

SAMPLES = np.linspace(-0.9, 0.9, 50)


def wav_bytes(tag, bits, data, channels=1, rate=16_000, size=None, extensible=False, extra=b""):
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    if extensible:
        form = struct.pack("<H", 0xFFFE) + form[2:] + struct.pack("<HHI", 22, bits, 0)
        form += struct.pack("<H", tag) + b"\0" * 14
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + extra
    size = len(data) if size is None else size
    return (
        b"RIFF" + struct.pack("<I", 0) + b"WAVE" + chunks + b"data" + struct.pack("<I", size) + data
    )


def encoded(bits):
    """The samples as integers of so many bits, as bytes."""
    if bits == 8:
        return np.round(SAMPLES * 128 + 128).astype("u1").tobytes()
    whole = np.round(SAMPLES * 2 ** (bits - 1)).astype("<i4")
    if bits == 24:
        return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_of_every_width(tmp_path, bits, extensible):
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(1, bits, encoded(bits), extensible=extensible))
    samples, rate = read_wav(path)
    assert (rate, samples.dtype) == (16_000, np.float32)
    np.testing.assert_allclose(samples, SAMPLES, rtol=0, atol=1.1 / 2 ** (bits - 1) + 1e-7)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_floats(tmp_path, dtype):
    path = tmp_path / "x.wav"
    path.write_bytes(wav_bytes(3, np.dtype(dtype).itemsize * 8, SAMPLES.astype(dtype).tobytes()))
    np.testing.assert_array_equal(read_wav(path)[0], SAMPLES.astype(np.float32))


def test_channels_are_mixed_and_other_chunks_left(tmp_path):
    both = np.stack([SAMPLES, SAMPLES / 3], 1).astype("<f4")
    path = tmp_path / "x.wav"
    path.write_bytes(
        wav_bytes(3, 32, both.tobytes(), 2, extra=b"LIST\x03\0\0\0abc\0") + b"LIST\x04\0\0\0abcd"
    )
    np.testing.assert_allclose(read_wav(path)[0], both.mean(1), rtol=1e-6)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF - 36])
def test_a_pipe_does_not_know_its_length(size):
    """What ffmpeg, sox and arecord write there."""
    reader = FrameReader(io.BytesIO(wav_bytes(1, 16, encoded(16), size=size)), "-", None, 10)
    assert (reader.form, reader.wav.rate) == ("wav", 16_000)
    np.testing.assert_allclose(np.concatenate(list(reader)), SAMPLES, rtol=0, atol=1e-4)
    assert reader.left == ""


def test_what_follows_the_samples_is_no_frame():
    source = io.BytesIO(wav_bytes(1, 16, encoded(16)) + b"LIST" + b"x" * 40)
    reader = FrameReader(source, "-", "wav", 15)
    assert len(list(reader)) == 3
    assert "10 bytes of 30 are left over" in reader.left


def test_what_the_standard_library_writes(tmp_path):
    path = str(tmp_path / "x.wav")
    with wave.open(path, "wb") as file:
        file.setparams((2, 2, 8_000, 0, "NONE", ""))
        file.writeframes(np.repeat(np.round(SAMPLES * 32768).astype("<i2"), 2).tobytes())
    samples, rate = read_wav(path)
    assert rate == 8_000
    np.testing.assert_allclose(samples, SAMPLES, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello", "is no WAV file: it begins with b'hello'"),
        (b"RIFF\0\0\0\0WAVE", "a WAV file without samples"),
        (wav_bytes(1, 16, b"")[:30] + b"", "a WAV file without samples"),
        (wav_bytes(6, 8, b""), "a WAV file of format 0x6, 8 bits, 1 channels, expected PCM"),
        (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", "whose samples come before their format"),
    ],
)
def test_what_is_no_wav(data, message):
    with pytest.raises(ValueError, match=message):
        wav_of(io.BytesIO(data), "x.wav")


@pytest.mark.parametrize("form", ["int16", "int32", "uint8", "float32"])
def test_raw_samples(form):
    bits = {"int16": 16, "int32": 32, "uint8": 8}.get(form)
    data = SAMPLES.astype("<f4").tobytes() if bits is None else encoded(bits)
    got = np.concatenate(list(FrameReader(io.BytesIO(data), "-", form, 10)))
    np.testing.assert_allclose(got, SAMPLES, rtol=0, atol=0.009)


def test_a_model_of_integers_gets_them_as_they_are():
    reader = FrameReader(io.BytesIO(encoded(16)), "-", "int16", 10, integers=True)
    np.testing.assert_array_equal(np.concatenate(list(reader)), np.round(SAMPLES * 32768))


def test_a_header_of_words_is_no_frame():
    reader = FrameReader(io.BytesIO(b"time, x\n1,2\n\n3;4\n"), "-", None, 2)
    assert [frame.tolist() for frame in reader] == [[1, 2], [3, 4]]
