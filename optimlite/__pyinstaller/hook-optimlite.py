"""PyInstaller's hook: every module of the package."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("optimlite", filter=lambda name: "__pyinstaller" not in name)
