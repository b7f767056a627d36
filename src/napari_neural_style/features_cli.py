"""The command ``napari-neural-style features``."""

from __future__ import annotations

import argparse
from typing import Any

from napari_neural_style.printing import complain, tell


def add(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    features = commands.add_parser("features", help="VGG-19 features: the pretrained and the learned ones")
    actions = features.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what is on this machine")
    listing.add_argument("--clear", action="store_true", help="remove the learned features")
    listing.set_defaults(run=_list)
    download = actions.add_parser("download", help="get them once: 548 MB, of which 80 MB are kept")
    download.add_argument("--url", help="another address of the same file")
    download.set_defaults(run=_download)
    verify = actions.add_parser("verify", help="check them against published numbers")
    verify.set_defaults(run=_verify)


def _list(options: argparse.Namespace) -> None:
    from napari_neural_style.cache import pretrained_path
    from napari_neural_style.engine import feature_cache

    path = pretrained_path()
    if path.is_file():
        tell(f"pretrained   {path} ({path.stat().st_size / 1e6:.0f} MB)")
    else:
        tell("pretrained   not on this machine; `napari-neural-style features download` gets them (548 MB)")
    tell("self-taught  learned from the images at hand in seconds; nothing to download")
    if options.clear:
        tell(f"             sets of learned features removed: {feature_cache.clear()}")
        for kept in feature_cache.entries():
            tell(f"             {kept} cannot be removed; it may be in use")
    else:
        learned = feature_cache.entries()
        size = sum(path.stat().st_size for path in learned) / 1e6
        tell(f"             sets of learned features: {len(learned)} in {feature_cache.folder()} ({size:.0f} MB)")


def _download(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from napari_neural_style.engine.download import download_pretrained

    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, desc="VGG-19", disable=None) as bar:

        def received(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        path = download_pretrained(received, options.url)
    tell(f"Kept the convolutions in {path}")


def _verify(options: argparse.Namespace) -> int:
    from napari_neural_style.engine.verify import verify_pretrained

    rows = verify_pretrained()
    for row in rows:
        tell(
            f"{row.layer}  max {row.maximum:.4g} (published {row.published_maximum:g})  "
            f"norm {row.norm:.4g} (published {row.published_norm:g})  {'ok' if row.agrees else 'DIFFERS'}"
        )
    if all(row.agrees for row in rows):
        tell("These are torchvision's pretrained VGG-19 features.")
        return 0
    complain("These are not torchvision's features. Remove the file and download it again.")
    return 1
