"Google Drive: a folder that lasts, seen at the mount point; it may be refused"
import os
from pathlib import Path
from IPython import get_ipython

def _stub(): return Path(os.environ['COLAB_STUB'])

def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    "Show the lasting folder as `mountpoint/MyDrive`"
    get_ipython().kernel # asks the browser: a process of its own cannot
    at,deed = Path(mountpoint),(_stub()/'drive.txt').read_text().strip()
    if ' ' in str(mountpoint): raise ValueError('Mountpoint must not contain a space.')
    if (at/'MyDrive').is_dir() and not force_remount:
        return print(f'Drive already mounted at {at}; to attempt to forcibly remount, call drive.mount("{at}", force_remount=True).')
    if at.is_symlink(): raise ValueError('Mountpoint must not be a symlink')
    if at.is_dir() and any(at.iterdir()): raise ValueError('Mountpoint must not already contain files')
    if at.exists() and not at.is_dir(): raise ValueError('Mountpoint must either be a directory or not exist')
    if not at.parent.exists(): raise ValueError('Mountpoint must be in a directory that exists')
    if deed!='granted': raise ValueError('mount failed' if deed=='refused' else deed)
    at.mkdir(exist_ok=True)
    (at/'MyDrive').symlink_to(_stub().parent/'drive', target_is_directory=True)
    print(f'Mounted at {at}')

def flush_and_unmount(timeout_ms=0):
    "What was written stays"
    print('Drive not mounted, so nothing to flush and unmount.')
