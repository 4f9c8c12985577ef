"""fedmosaic: personalised federated learning of heterogeneous multimodal models."""

__version__ = "0.1.0"
