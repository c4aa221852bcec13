"""Flower's own commands as processes on this machine: `flwr run .`, and a deployment rehearsed on loopback."""

from .loopback import Deployment

__all__ = ["Deployment"]
