"""A proxy of the house does not catch what stays on this machine."""

import os
import subprocess
import sys
from urllib.request import proxy_bypass_environment

import pytest

from medtl_core.cli.site_check import beside_loopback


@pytest.mark.parametrize("before", ["", "intranet.example", "127.0.0.1"])
@pytest.mark.parametrize("proxy", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_what_stays_on_this_machine_passes_by_a_proxy(monkeypatch: pytest.MonkeyPatch, before: str, proxy: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, before)
    monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    beside_loopback()
    for place in ("127.0.0.1:4000", "localhost:4000", *([before] if before else [])):
        assert proxy_bypass_environment(place)
    assert not proxy_bypass_environment("fl.example:443")
    told = "import os; print(os.environ['no_proxy'] == os.environ['NO_PROXY'], os.environ['no_proxy'])"
    child = subprocess.run([sys.executable, "-c", told], env=os.environ, capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["True", ",".join(filter(None, [before, "127.0.0.1,localhost,::1"]))]
