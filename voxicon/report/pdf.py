"""A page of this package as a PDF, through WeasyPrint (``pip install "voxicon[pdf]"``)."""

from __future__ import annotations

from typing import Any

from voxicon.errors import ConfigError


def check_printing() -> None:
    """Load what prints, so that its lack is told before hours of work.

    Raises:
        ConfigError: WeasyPrint or a library it needs (Pango) is not there.
    """
    _weasyprint()


def to_pdf(page: str) -> bytes:
    """The page as it prints.

    Args:
        page: A complete HTML file; whatever it would load from elsewhere is not loaded.

    Raises:
        ConfigError: WeasyPrint or a library it needs is not there.
    """
    weasyprint = _weasyprint()
    inside = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
    printed: bytes = weasyprint.HTML(string=page, url_fetcher=inside).write_pdf()
    return printed


def _weasyprint() -> Any:
    try:
        import weasyprint
        import weasyprint.urls
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f'PDF: WeasyPrint cannot be loaded ({reason}); pip install "voxicon[pdf]" and the system\'s Pango library, '
            "or print report.html from a browser"
        ) from error
    return weasyprint
