"""The score route: the fastest way through a classifier when no gradient is needed."""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lib.core.runtime import cache_dir

_log = logging.getLogger(__name__)
_OPSET = 17


def compile_scores(classifier, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """``images (N, *shape) -> logits (N, K)``, equal to ``classifier(images)`` to 1e-4.

    On a CPU in float32: an ONNX Runtime session, its export cached by the hash of the weights, the
    architecture and the shape. The network itself on other devices, where the export fails (said
    once), and where the network is no graph: the exporter would record one of its branches.
    """
    on_cpu = classifier.device.type == "cpu" and classifier.dtype == torch.float32
    if not on_cpu or not classifier.is_graph:
        return classifier
    try:
        session = _session(_exported(classifier, shape))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("%s: scores run without ONNX Runtime (%s)", classifier.name, reason)
        return classifier

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.detach().contiguous().numpy()})
        return torch.from_numpy(logits)

    return run


@contextmanager
def _plain_attention():
    """Attention spelled out in exportable operators, not as PyTorch's one fused operator."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _session(path: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _exported(classifier, shape: tuple[int, ...]) -> str:
    # the code names the layers, their representation holds the options (stride, slope...)
    architecture = (classifier.network.code, repr(classifier.network))
    parts = [weights_hash(classifier), architecture, shape, torch.__version__, _OPSET]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    path = cache_dir("onnx") / f"{key}.onnx"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with warnings.catch_warnings(), _plain_attention():
            # The exporter that follows torch.export needs onnxscript; this one needs nothing more.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                classifier,
                (torch.zeros(2, *shape),),
                str(partial),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
            )
        os.replace(partial, path)
    return str(path)


def weights_hash(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers with their names."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(
            value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
