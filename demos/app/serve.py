"""Start the app, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .limits import MAX_FILE, MAX_SESSIONS, QUEUE


def serve(
    port: int = 7860,
    models: Sequence[str] = (),
    host: str = "127.0.0.1",
    share: bool = False,
    device: str = "auto",
    inbrowser: bool = False,
    block: bool = True,
) -> Any:
    """Serve the demo until it is interrupted.

    Parameters
    ----------
    port : int
    models : sequence of str
        Folders or Hub ids beside the embedded models.
    host : str
        Address or name to listen on; 127.0.0.1 is reachable from this machine only. Requests to another name (but
        localhost and the public link) are refused.
    share : bool
        Public link through gradio's servers.
    device : str
    inbrowser : bool
        Open a browser window.
    block : bool
        False returns the running app, for tests; its temporary files stay until ``close`` of the returned app and
        the end of the process.

    Raises
    ------
    OSError
        The port is taken.
    """
    folder = tempfile.mkdtemp(prefix="vtc-demo-")
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

    from starlette.middleware import Middleware

    from .files import spare_present
    from .guard import Guard
    from .hosts import Hosts
    from .models import Shelf
    from .page import CSS, build_page, theme

    if block:
        signal.signal(signal.SIGTERM, _stop)
    page = build_page(Shelf(models, device)).queue(max_size=QUEUE, default_concurrency_limit=4)
    spare_present()
    hosts = Hosts(host, lambda: page.share_url)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=share,
            inbrowser=inbrowser,
            max_file_size=MAX_FILE,
            state_session_capacity=MAX_SESSIONS,
            app_kwargs={"middleware": [Middleware(Guard, hosts=hosts, folder=Path(folder).resolve())]},
            show_error=False,
            enable_monitoring=False,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            theme=theme(),
            css=CSS,
            prevent_thread_lock=not block,
            quiet=not block,
        )
    finally:
        if block:
            page.close()
            shutil.rmtree(folder, ignore_errors=True)
    return page


def _stop(*_: Any) -> None:
    """End as after an interrupt from the keyboard, so that temporary files go."""
    sys.exit(0)
