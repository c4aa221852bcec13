"""medtl: federated few-shot transfer learning for hospitals that may not share a case."""

__version__ = "0.1.0"
