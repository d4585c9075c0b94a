"""Log-mel spectrograms against a loop over windows and bands, numbers of librosa, and the way back to a sound."""

import math

import numpy as np
import pytest
import torch

from potstill._util.mel import MelScale, encode_wav
from potstill.errors import PotstillError
from potstill.functional.mel import log_mel, mel_power


def chirp(samples: int = 2400) -> torch.Tensor:
    t = torch.arange(samples, dtype=torch.float64) / 8000
    return 0.5 * torch.sin(2 * torch.pi * 440 * t) + 0.25 * torch.sin(2 * torch.pi * (200 + 2500 * t) * t)


def voice() -> torch.Tensor:
    """Return a second of ten harmonics that come and go."""
    t = torch.arange(8000, dtype=torch.float64) / 8000
    phase = 2 * torch.pi * (180 * t + 20 * t * t)
    harmonics = sum(torch.sin(k * phase) / k * (1 + torch.sin(2 * torch.pi * 3 * t + k)) for k in range(1, 11))
    return torch.as_tensor(harmonics) / 6


def by_loops(sound: np.ndarray, scale: MelScale) -> np.ndarray:
    """Return powers of bands by the definition: a sum over samples for each frequency of each window."""
    w, hop = scale.window, scale.hop
    edges = [
        700 * (10 ** (m / 2595) - 1) for m in np.linspace(0, 2595 * math.log10(1 + scale.rate / 1400), scale.mels + 2)
    ]
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / w) for n in range(w)]
    full = w * sum(v * v for v in window) / 4
    frames = -(-len(sound) // hop)
    out = np.zeros((scale.mels, frames))
    for f in range(frames):
        piece = np.array(
            [
                window[n] * (sound[f * hop - w // 2 + n] if 0 <= f * hop - w // 2 + n < len(sound) else 0.0)
                for n in range(w)
            ]
        )
        for k in range(w // 2 + 1):
            power = abs((piece * np.exp(-2j * np.pi * k * np.arange(w) / w)).sum()) ** 2 / full
            hz = k * scale.rate / w
            for m in range(scale.mels):
                low, middle, high = edges[m : m + 3]
                out[m, f] += power * max(0, min((hz - low) / (middle - low), (high - hz) / (high - middle)))
    return out


def test_powers_are_those_of_a_loop() -> None:
    scale = MelScale(rate=1000, mels=6)
    sound = np.random.default_rng(0).standard_normal(75)
    assert np.allclose(
        mel_power(torch.from_numpy(sound), scale).numpy(), by_loops(sound, scale), rtol=1e-10, atol=1e-14
    )


def test_powers_are_those_of_librosa() -> None:
    """librosa 0.11: ``melspectrogram(sr=8000, n_fft=256, hop_length=128, n_mels=32, htk=True, norm=None,
    pad_mode="constant")`` divided by 256 × 96 / 4."""
    power = mel_power(chirp(), MelScale(rate=8000, mels=32))
    golden = {
        (5, 3): 3.9080386e-05,
        (5, 9): 3.2784e-07,
        (12, 9): 3.655735e-04,
        (20, 15): 2.783116e-06,
        (0, 0): 2.0735723e-03,
    }
    for (band, frame), value in golden.items():
        assert float(power[band, frame]) == pytest.approx(value, rel=2e-5)
    filters = MelScale(rate=8000, mels=32).filters()
    assert np.flatnonzero(filters[10]).tolist() == [18, 19, 20, 21, 22]
    assert filters[10][18:23] == pytest.approx([0.21562587, 0.6376607, 0.94365174, 0.54528075, 0.14690982], rel=1e-6)


def test_a_sine_at_full_scale_is_0_decibels_and_silence_is_0() -> None:
    scale = MelScale(rate=16000, mels=32)
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    values = log_mel(mel_power(sine, scale))
    assert values.shape == (32, 63)
    assert 10 * math.log10(float(mel_power(sine, scale)[:, 30].sum())) == pytest.approx(0, abs=0.1)
    assert (31 - int(values[:, 30].argmax())) == int(mel_power(sine, scale)[:, 30].argmax())  # highest band first
    assert float(values.max()) < 1
    assert float(log_mel(mel_power(torch.zeros(400), scale)).abs().max()) == 0
    assert mel_power(torch.zeros(3), scale).shape == (32, 1)


def test_gradients_flow_to_the_sound() -> None:
    sound = chirp(600).requires_grad_()
    mel_power(sound, MelScale(rate=8000)).sum().backward()
    assert sound.grad is not None
    assert float(sound.grad.abs().max()) > 0


def test_a_spectrogram_sounds_like_it_looks() -> None:
    scale = MelScale(rate=8000, mels=32)
    sound = voice().float()
    values = log_mel(mel_power(sound / sound.abs().max(), scale))
    heard = scale.to_wave(values[None].numpy())
    assert len(heard) == values.shape[1] * scale.hop
    assert float(np.abs(heard).max()) == pytest.approx(0.9, abs=1e-6)
    again = log_mel(mel_power(torch.from_numpy(heard), scale))
    loud = values > 0.4
    apart = 80 * (again - values)[loud]
    assert float((apart - apart.median()).abs().mean()) < 1.5
    noise = log_mel(mel_power(torch.rand(8000, generator=torch.Generator().manual_seed(0)) * 2 - 1, scale))
    assert float((80 * (noise - values)[loud]).abs().mean()) > 10
    assert np.array_equal(heard, scale.to_wave(values[None].numpy()))


def test_silence_and_bad_values_make_no_noise() -> None:
    scale = MelScale(rate=8000)
    assert float(np.abs(scale.to_wave(np.zeros((1, 32, 8)))).max()) == 0
    bad = np.full((1, 32, 8), np.nan)
    bad[0, 0, 0] = 9.0
    assert np.isfinite(scale.to_wave(bad)).all()


def test_a_wav_file_has_16_bits() -> None:
    content = encode_wav(np.array([0.0, 1.0, -1.0, 7.0]), 8000)
    assert len(content) == 44 + 8
    assert np.frombuffer(content[44:], "<i2").tolist() == [0, 32767, -32767, 32767]


def test_units_say_the_scale() -> None:
    scale = MelScale(rate=11025, mels=24)
    assert scale.window == 256
    assert MelScale.from_units(scale.units) == scale
    assert scale.seconds(43) == pytest.approx(43 * 128 / 11025)
    for bad in ("pixels in [0,1]", "log-mel:rate=8000", "log-mel:rate=8000,mels=32,mels=1", ""):
        with pytest.raises(PotstillError, match="the units of sounds must be such as"):
            MelScale.from_units(bad)


@pytest.mark.parametrize(
    ("rate", "mels", "said"),
    [(500, 32, "from 1,000 to 48,000 Hz"), (8000, 3, "from 4 to 256 bands"), (8000, 200, "some hold no frequency")],
)
def test_scales_out_of_range_are_refused(rate: int, mels: int, said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        MelScale(rate=rate, mels=mels)
