"""``vtc demo``: the library in a browser."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 7860,
    model: Annotated[list[str] | None, typer.Option(help="Folder or Hub id beside the embedded; repeatable.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than 127.0.0.1 open it.")] = "127.0.0.1",
    share: Annotated[bool, typer.Option("--share", help="Public link through gradio's servers.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser window.")] = False,
) -> None:
    """Start the demo in a browser: two answers side by side, the kept tokens, all methods, measured times.

    It listens on this machine only, unless --host or --share says otherwise.
    """
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ImportError("The demo needs gradio 6: pip install 'vtc[demo]'.") from None
    from vtc.demos.app import serve

    serve(port=port, models=model or [], host=host, share=share, device=device, inbrowser=open_browser)
