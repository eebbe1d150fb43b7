"""The score route: the fastest way through a classifier when no gradient is needed."""

import io
import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor

from lib.core import store

_log = logging.getLogger(__name__)
_OPSET = 17
_CODE = store.code(__file__)


def compile_scores(classifier, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """``images (N, *shape) -> logits (N, K)``, equal to ``classifier(images)`` to 1e-4.

    On a CPU in float32: an ONNX Runtime session, its export kept in the store. The network itself
    on other devices, where the export fails (said once), and where the network is no graph: the
    exporter would record one of its branches.
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


def _session(exported: bytes):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])


def _exported(classifier, shape: tuple[int, ...]) -> bytes:
    key = store.key(classifier.decisive, shape, _CODE)
    exported = store.read("onnx", key)
    if exported is None:
        file = io.BytesIO()
        with warnings.catch_warnings(), _plain_attention():
            # The exporter that follows torch.export needs onnxscript; this one needs nothing more.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                classifier,
                (torch.zeros(2, *shape),),
                file,  # pyright: ignore[reportArgumentType]
                dynamo=False,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
            )
        exported = file.getvalue()
        store.write("onnx", key, exported)
    return exported
