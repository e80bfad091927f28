"""Texts of the formats that the OpenAPI document names and whose rules no pattern tells."""

import schemathesis
from hypothesis import strategies as st

VALUES = {
    "branch-name": ["main", "feature/x"],
    "buildpack": ["nodejs", "paas/python"],
    "dockerfile-path": ["Dockerfile", "deploy/web.dockerfile"],
    "host-path": ["/srv/files"],
    "image-name": ["company/base:1", "registry.example/two"],
    "lifetime": ["30m", "12h", "90d"],
    "mount": ["data:/data", "data:/var/lib/x:ro"],
    "mount-path": ["/data"],
    "network-target": ["10.9.0.0/16:443", "host:3142"],
    "period": ["10m", "2d", "2026-01-02T15:04:05Z"],
    "registry-host": ["registry.example", "registry.example:5000"],
    "source-folder": ["services/api"],
    "ssh-public-key": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN1Y2ggYSBrZXkgaGFzIDMyIGJ5dGVzIHdpdGhvdXQh"],
}

for name, values in VALUES.items():
    schemathesis.openapi.format(name, st.sampled_from(values))
