"""docs/regtest.md on real nodes, as a reader would follow it, with nothing left running at its end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from docs_pages import fences
from page_session import BIN, PageSession

from lightwork_regtest.launch import take_down
from lightwork_regtest.macaroons import ROLES
from lightwork_regtest.network import Network
from lightwork_regtest.places import network_folder
from lightwork_regtest.progress import SilentProgress

# The first run on a fresh machine builds lnd.
pytestmark = [pytest.mark.regtest, pytest.mark.timeout(2_400)]


def test_the_page_works_as_it_is_written_and_leaves_nothing(tmp_path: Path) -> None:
    session = PageSession("docs/regtest.md", folder=tmp_path, ready_seconds=2_000)
    folder = network_folder("default", session.env)
    try:
        session.play()
        assert not folder.exists()
    finally:
        session.close()
        if folder.exists():
            take_down("default", delete=True, env=session.env, progress=SilentProgress())


@pytest.mark.parametrize(("page", "node"), [("docs/operating.md", "broker"), ("docs/agents.md", "provider")])
def test_the_macaroon_that_a_page_bakes_allows_what_the_role_needs(
    page: str, node: str, network: Network, tmp_path: Path
) -> None:
    (baking,) = [fence.code for fence in fences(page) if "lncli bakemacaroon" in fence.code]
    lncli = f"{BIN / 'lightwork-regtest'} lncli {node} --name {network.name}"
    target = tmp_path / "baked.macaroon"
    line = re.sub(r"--save_to \S+", f"--save_to {target}", baking.replace("lncli", lncli, 1))
    done = subprocess.run(
        ["bash", "-c", line], env=network.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    baked = target.read_bytes()
    assert [uri for uri in ROLES[node].uris if uri.encode() not in baked] == []
